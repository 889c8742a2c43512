//! Scenarios that once led to a finding, as the generator printed them.
