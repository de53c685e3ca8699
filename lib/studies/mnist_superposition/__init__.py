"""Ten digits in three neurons (Wiechecki 2024)."""
