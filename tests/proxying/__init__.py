"""What the proxy's tests share: recorded streams, a scripted upstream, a running proxy."""
