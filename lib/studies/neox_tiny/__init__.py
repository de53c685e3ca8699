"""What neox-tiny has learnt."""
