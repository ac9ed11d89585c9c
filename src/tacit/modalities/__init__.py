"""What a raw example of each kind of data is: its tokens, its random views, its defaults."""
