"""What an encoder is written as, a file each."""
