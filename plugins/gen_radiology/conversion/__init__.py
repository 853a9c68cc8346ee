"""`gen data inspect` and `gen data convert`: what files hold, and sets made of them, de-identified."""
