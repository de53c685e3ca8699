"""What tests share: definitions written plainly, small models, and the project in miniature."""
