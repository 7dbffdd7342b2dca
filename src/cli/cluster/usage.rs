//! `help`: what the subcommands are.

use super::super::out::say;
use super::super::session::Failed;
use super::{Cluster, SUBCOMMANDS};

/// The column in which arguments begin.
const COLUMN: usize = 15;

/// Prints it. (The status is that of a failure, as with Redis's client.)
pub fn help(_: &mut Cluster) -> Result<(), Failed> {
    say!("Cluster Manager Commands:\n");
    for subcommand in SUBCOMMANDS {
        say!("  {:COLUMN$}{}\n", subcommand.name, subcommand.args);
        for option in subcommand.options {
            say!("{:COLUMN$}  --cluster-{option}\n", "");
        }
    }
    say!(
        "\nFor check, fix, reshard, del-node, set-timeout, info, rebalance, call, import, backup you can specify the host \
         and port of any working node in the cluster.\n"
    );
    say!("\nCluster Manager Options:\n");
    say!("  --cluster-yes  Automatic yes to cluster commands prompts\n\n");
    Err(Failed)
}
