"""Is the geometry of probe directions a minimum of an energy? (slides, 2024)"""
