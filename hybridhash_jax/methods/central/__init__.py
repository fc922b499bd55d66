"""Methods that draw images to codes, proxies or classifiers of their classes."""
