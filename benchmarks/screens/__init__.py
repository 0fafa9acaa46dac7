"""The screens of docs/, taken in a real terminal."""
