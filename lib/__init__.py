"""Models, measures and the machinery of reports that the studies share."""
