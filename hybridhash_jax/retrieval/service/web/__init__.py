"""How requests come in: connections, who may ask, uploads, limits, the files of the page."""
