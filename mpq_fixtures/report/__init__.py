"""Records on disk into one HTML file: read the results, draw the curves, lay out the page."""
