//! DEBUG, as far as it disturbs the bus of the cluster: messages that are not heard, connections that break.

use crate::base::number;
use crate::cmd::fault::{Fault, NOT_INTEGER};
use crate::cmd::{Args, CmdResult, DONE, is_word};
use crate::exec::Call;

const NO_CLUSTER: Fault =
    Fault::new("ERR Debug option only available for cluster mode enabled setup!");

/// DEBUG DROP-CLUSTER-PACKET-FILTER kind: messages of this kind are not heard; -1 ends it.
pub(super) fn drop_filter(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let kind = number::parse_i64(args.argv()[2]).ok_or(NOT_INTEGER)?;
    if let Some(cluster) = &mut call.server.cluster {
        cluster.drop_kind = u16::try_from(kind).ok();
    }
    call.reply().ok();
    DONE
}

/// DEBUG CLUSTERLINK KILL <to|from|all> node
pub(super) fn kill_link(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    if !is_word(argv[2], "kill") {
        return Err(call.wrong_form(&args));
    }
    let shown = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let cluster = call.server.cluster.as_ref().ok_or(NO_CLUSTER)?;
    let unknown = || Fault::text(format!("ERR Unknown node {}", shown(argv[4])));
    let id = cluster.find(argv[4]).ok_or_else(unknown)?.id;
    let all = is_word(argv[3], "all");
    let (to, from) = (is_word(argv[3], "to"), is_word(argv[3], "from"));
    if !(all || to || from) {
        return Err(Fault::text(format!(
            "ERR Unknown direction {}",
            shown(argv[3])
        )));
    }
    let kill = |c: &mut crate::cluster::Cluster| c.kill_links(id, all || to, all || from);
    call.server.with_cluster(call.io, kill);
    call.reply().ok();
    DONE
}
