"""The engines: found, built, chosen, asked what they take. One command line for all of them."""
