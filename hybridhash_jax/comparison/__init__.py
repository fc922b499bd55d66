"""Methods side by side: the runs of a comparison, the choice of hyper-parameters, the table."""
