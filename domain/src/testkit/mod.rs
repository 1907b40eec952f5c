//! Contract suites of the ports: one suite, run over every adapter.
