"""What several tests share: makers of clips, features and models, and the command line."""
