//! Verdicts: what a row of answers says about a service.
