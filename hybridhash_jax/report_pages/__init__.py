"""What an evaluation report looks like: figures, a picture of neighbours, and HTML pages.

Nothing here computes a measure. A report is a plain dict (`report.json`), an image a uint8 array, a
picture the bytes of a PNG file:

    figures.plot_precision_recall(report, path)      # and the other plot_* functions
    retrieval_grid.draw_retrieval(report, images, path)
    page.render_report(report, images, pictures)     # one self-contained HTML file, as a string
    sweep_page.render_sweep(sweep, pictures)         # the same over several code lengths
    published.published_for(protocol, top_k)         # numbers to put beside ours
"""
