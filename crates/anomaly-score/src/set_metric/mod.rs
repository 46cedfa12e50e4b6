//! set_metric
