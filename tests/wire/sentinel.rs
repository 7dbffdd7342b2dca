//! Sentinels as processes.
