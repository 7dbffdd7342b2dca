//! CONFIG: what the server is set to, and changing it while it runs.
//!
//! The directives and their values are the business of `crate::config`. Here a change is carried out:
//! the new configuration takes the old one's place, then everything that must be done about it is done,
//! and if one of these fails the old one comes back and is carried out again.

use std::path::Path;

use crate::base::errno;
use crate::cmd::fault::SYNTAX;
use crate::cmd::spec::{Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::config::rewrite::rewrite;
use crate::config::set::{Change, Circumstances, SetError, config_get, config_set, is_sensitive};
use crate::config::{Apply, Config, Text};
use crate::exec::aof::State;
use crate::exec::io::{Io, Setting};
use crate::exec::server::Server;
use crate::exec::{Call, ServerFn};
use crate::repl::backlog::SIZE_MIN;

const NO_FILE: Fault = Fault::new("ERR The server is running without a config file");

const COMMON: Flags = Flags::ADMIN
    .or(Flags::NOSCRIPT)
    .or(Flags::LOADING)
    .or(Flags::STALE);

/// What clients of a cluster do with the subcommands that change a node.
const EVERY_NODE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const CONFIG: Row<ServerFn> = Spec::new("config", -2, Group::Server)
    .since("2.0.0")
    .cost("That of the subcommand.")
    .about("Commands about the configuration.")
    .container();

const HELP: Row<ServerFn> = Spec::new("config|help", 2, Group::Server)
    .flags(Flags::LOADING.or(Flags::STALE))
    .since("5.0.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

fn help(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.help("CONFIG", HELP_LINES)
}

const HELP_LINES: &[&str] = &[
    "GET <pattern> [<pattern> ...]",
    "    Give the directives that match one of the patterns, and their values.",
    "SET <directive> <value> [<directive> <value> ...]",
    "    Change all of the directives, or none if one of them cannot be changed.",
    "RESETSTAT",
    "    Set the figures of INFO back.",
    "REWRITE",
    "    Write the configuration into the file that the server was started with.",
];

const GET: Row<ServerFn> = Spec::new("config|get", -3, Group::Server)
    .flags(COMMON)
    .since("2.0.0")
    .cost("O(N) with N the directives asked for")
    .about("Gives the values of directives.")
    .history(&[("7.0.0", "Several patterns in one call.")])
    .args(&[Arg::string("parameter").multiple()])
    .run(get);

/// CONFIG GET pattern [pattern ...]
fn get(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let found = config_get(&call.server.config, &args.argv()[2..]);
    let reply = call.reply();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(&name);
        reply.bulk(&value);
    }
    DONE
}

const SET: Row<ServerFn> = Spec::new("config|set", -4, Group::Server)
    .flags(COMMON)
    .since("2.0.0")
    .cost("O(N) with N the directives given")
    .about("Changes directives while the server runs.")
    .history(&[("7.0.0", "Several directives in one call.")])
    .tips(EVERY_NODE)
    .args(&[Arg::block("data", &[Arg::string("parameter"), Arg::string("value")]).multiple()])
    .run(set);

/// CONFIG SET directive value [directive value ...]
fn set(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let words = &args.argv()[2..];
    if words.len() % 2 == 1 {
        return Err(SYNTAX);
    }
    let pairs: Vec<(&[u8], &[u8])> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    for (at, (name, _)) in pairs.iter().enumerate() {
        if is_sensitive(name) {
            call.redact(2 + 2 * at + 1);
        }
    }
    let peer = &call.conn().peer;
    let local = peer.loopback || peer.unix_socket;
    let when = Circumstances {
        loading: call.server.loading || call.server.async_loading,
        protected: call.server.config.enable_protected_configs.allows(local),
    };
    let io = &mut *call.io;
    let mut enter = |from: &Text, to: &[u8]| io.enter_dir(from, to);
    let change = config_set(&call.server.config, &pairs, when, &mut enter);
    let carried_out = change.and_then(|change| carry_out(call, change));
    carried_out.map_err(|error| Fault::text(error.reply()))?;
    // The cluster's machine goes by the new ones at once, and others hear of what concerns them.
    call.server.with_cluster(call.io, |_| ());
    call.reply().ok();
    DONE
}

/// Makes a change the server's configuration, unless something about it fails.
fn carry_out(call: &mut Call<'_>, change: Change) -> Result<(), SetError> {
    for note in &change.notes {
        log::warn!("{note}");
    }
    let old = std::mem::replace(&mut call.server.config, change.config);
    for (apply, name) in &change.apply {
        let Err(reason) = apply_one(call, *apply) else {
            continue;
        };
        log::warn!(
            "Failed applying new configuration. Possibly related to new {name} setting. Restoring previous settings."
        );
        call.server.config = old;
        for (apply, _) in &change.apply {
            if let Err(reason) = apply_one(call, *apply) {
                log::warn!("Failed applying restored failed CONFIG SET command: {reason}");
            }
        }
        return Err(SetError::refused(*name, reason));
    }
    Ok(())
}

/// Does what a changed directive asks for.
fn apply_one(call: &mut Call<'_>, apply: Apply) -> Result<(), String> {
    let server = &mut *call.server;
    let mut outside = |setting| call.io.apply(setting, &server.config);
    match apply {
        Apply::Port => outside(Setting::Listen)
            .map_err(|_| "Unable to listen on this port. Check server logs.".into()),
        Apply::Bind => {
            let tls = server.config.tls_port != 0;
            let bound = outside(Setting::Listen).and_then(|()| {
                if tls {
                    outside(Setting::ListenTls)
                } else {
                    Ok(())
                }
            });
            bound.map_err(|_| "Failed to bind to specified addresses.".into())
        }
        Apply::OomScoreAdj => outside(Setting::OomScoreAdj)
            .map_err(|_| "Failed to set current oom_score_adj. Check server logs.".into()),
        Apply::ProcTitle => {
            outside(Setting::ProcTitle).map_err(|_| "failed to set process title".into())
        }
        Apply::LocaleCollate => outside(Setting::Locale).map_err(|_| "Invalid locale name".into()),
        Apply::Maxclients => outside(Setting::MaxClients),
        Apply::CrashLog => outside(Setting::CrashLog),
        Apply::Watchdog => outside(Setting::Watchdog),
        Apply::Loglevel => outside(Setting::Log),
        Apply::JemallocBgThread => outside(Setting::JemallocBackground),
        Apply::Hz => {
            server.hz = server.config.hz;
            Ok(())
        }
        Apply::Maxmemory => {
            apply_maxmemory(call);
            Ok(())
        }
        Apply::ReplBacklogSize => {
            let size = &mut server.config.repl_backlog_size;
            *size = (*size).max(SIZE_MIN);
            server.repl.history.resize_backlog(*size);
            Ok(())
        }
        Apply::GoodReplicas => {
            let now_s = server.now.s();
            server.repl.master.count_good(now_s, &server.config);
            Ok(())
        }
        Apply::RequirePass => {
            let password = server.config.requirepass.clone();
            server.set_default_password(&password);
            Ok(())
        }
        Apply::Appendonly => apply_appendonly(call),
        Apply::AppendFsync => {
            server.note_who_listens();
            Ok(())
        }
        Apply::AofAutoGc => {
            server.tidy_log(call.io);
            Ok(())
        }
        Apply::Tls if !asks_for_tls(&server.config) => Ok(()),
        Apply::Tls => outside(Setting::Tls)
            .map_err(|_| "Unable to update TLS configuration. Check server logs.".into()),
        Apply::TlsPort => {
            outside(Setting::TlsOnce).map_err(|_| {
                "Unable to update TLS configuration. Check server logs.".to_string()
            })?;
            outside(Setting::ListenTls)
                .map_err(|_| "Unable to listen on this port. Check server logs.".into())
        }
        // Read where they are needed; the cluster's machine hears of all in the end.
        Apply::Nothing
        | Apply::ClusterAnnouncedPort
        | Apply::ClusterFlags
        | Apply::ClusterHostname
        | Apply::ClusterHumanNodename
        | Apply::ClusterIp
        | Apply::MaxmemoryClients => Ok(()),
    }
}

/// The log begins or ends. While the data is loaded it is only noted: what is wanted then is seen to at the end.
fn apply_appendonly(call: &mut Call<'_>) -> Result<(), String> {
    let server = &mut *call.server;
    match (server.config.appendonly, server.aof.state) {
        _ if server.loading => {}
        (false, State::On | State::WaitRewrite) => server.stop_log(call.io),
        (true, State::Off) if !server.start_log(call.io) => {
            return Err("Unable to turn on AOF. Check server logs.".into());
        }
        _ => {}
    }
    Ok(())
}

fn asks_for_tls(config: &Config) -> bool {
    config.tls_port != 0 || config.tls_replication || config.tls_cluster
}

/// A limit below what is in use starts evicting at once.
fn apply_maxmemory(call: &mut Call<'_>) {
    let limit = call.server.config.maxmemory;
    if limit == 0 {
        return;
    }
    let used = call.io.used_memory();
    if limit < used {
        log::warn!(
            "WARNING: the new maxmemory value set via CONFIG SET ({limit}) is smaller than the current memory usage \
             ({used}). This will result in key eviction and/or the inability to accept new write commands depending \
             on the maxmemory-policy."
        );
    }
    call.server.evict_more = true;
}

const RESETSTAT: Row<ServerFn> = Spec::new("config|resetstat", 2, Group::Server)
    .flags(COMMON)
    .since("2.0.0")
    .cost("O(1)")
    .about("Sets the server's statistics back.")
    .tips(EVERY_NODE)
    .run(resetstat);

fn resetstat(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.server.stats.reset();
    call.server.persistence.reset_counts();
    call.server.defrag.reset_stats();
    call.reply().ok();
    DONE
}

const REWRITE: Row<ServerFn> = Spec::new("config|rewrite", 2, Group::Server)
    .flags(COMMON)
    .since("2.8.0")
    .cost("O(1)")
    .about("Writes the configuration into its file.")
    .tips(EVERY_NODE)
    .run(rewrite_command);

fn rewrite_command(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    if call.server.config_file.is_empty() {
        return Err(NO_FILE);
    }
    match rewrite_file(call.server, call.io, false) {
        Ok(()) => {
            log::info!("CONFIG REWRITE executed with success.");
            call.reply().ok();
            DONE
        }
        Err(error) => {
            let reason = errno::text(&error);
            log::warn!("CONFIG REWRITE failed: {reason}");
            Err(Fault::text(format!("ERR Rewriting config file: {reason}")))
        }
    }
}

/// Rewrites the configuration file; `all` writes the defaults too (DEBUG CONFIG-REWRITE-FORCE-ALL).
pub fn rewrite_file(server: &Server, io: &mut dyn Io, all: bool) -> std::io::Result<()> {
    let path = Path::new(&server.config_file);
    let old = io.read_file(path)?;
    let users: Vec<Vec<u8>> = server.acl.users.iter().map(|u| u.config_line()).collect();
    let watched = server.sentinel.as_ref().map(|w| w.machine.file_lines());
    let text = rewrite(&old, &server.config, &users, watched.as_ref(), all);
    io.replace_file(path, &text)
}

pub static ROWS: &[Row<ServerFn>] = &[CONFIG, GET, HELP, RESETSTAT, REWRITE, SET];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::exec::conn::{Peer, Token};
    use crate::exec::server::Server;
    use crate::server::test_io::TestIo;

    struct Bench {
        server: Server,
        outside: TestIo,
        token: Token,
    }

    impl Bench {
        fn new(config: Config, loopback: bool) -> Bench {
            let outside = TestIo {
                refuses: |setting, config| setting == Setting::Listen && config.port == 22,
                read_only: vec!["/readonly".into()],
                ..TestIo::default()
            };
            let mut server = Server::new(config, crate::admin::table(), 1, &outside);
            let peer = Peer {
                loopback,
                ..Peer::default()
            };
            let token = server.connect(peer).unwrap();
            Bench {
                server,
                outside,
                token,
            }
        }

        /// Runs a subcommand's function; the reply or the error.
        fn run(&mut self, run: ServerFn, words: &[&str]) -> String {
            let argv: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            let mut call = Call {
                server: &mut self.server,
                io: &mut self.outside,
                token: self.token,
            };
            let before = call.reply().mark();
            let result = run(&mut call, Args::new(&argv, &[]));
            let text = match result {
                Ok(_) => call.reply().to_vec(),
                Err(fault) => fault.as_bytes().to_vec(),
            };
            call.reply().truncate(before);
            String::from_utf8(text).unwrap()
        }

        fn set(&mut self, words: &[&str]) -> String {
            self.run(set, &[&["config", "set"], words].concat())
        }
    }

    #[test]
    fn a_change_that_cannot_be_carried_out_is_taken_back() {
        let mut bench = Bench::new(Config::default(), true);
        let reply = bench.set(&[
            "hz",
            "50",
            "oom-score-adj",
            "yes",
            "port",
            "22",
            "timeout",
            "9",
        ]);
        let expected = "ERR CONFIG SET failed (possibly related to argument 'port') - \
                        Unable to listen on this port. Check server logs.";
        assert_eq!(reply, expected);
        assert_eq!(bench.server.config, Config::default());
        assert_eq!(bench.server.hz, 10);
        use Setting::{Listen, OomScoreAdj};
        assert_eq!(
            bench.outside.applied,
            [OomScoreAdj, Listen, OomScoreAdj, Listen]
        );

        assert_eq!(bench.set(&["hz", "50", "port", "23"]), "+OK\r\n");
        assert_eq!((bench.server.hz, bench.server.config.port), (50, 23));
        assert_eq!(bench.set(&["hz"]), "ERR syntax error");
        bench.outside.disk.break_down(libc::EACCES);
        let untrue = "ERR CONFIG SET failed (possibly related to argument 'appendonly') - \
                      Unable to turn on AOF. Check server logs.";
        assert_eq!(bench.set(&["appendonly", "yes"]), untrue);
        assert!(!bench.server.config.appendonly);
    }

    #[test]
    fn secrets_and_protected_directives() {
        let local = Config {
            enable_protected_configs: crate::config::ProtectedAction::Local,
            protected_mode: false,
            ..Config::default()
        };
        let mut far = Bench::new(local.clone(), false);
        assert!(
            far.set(&["dir", "/x"])
                .ends_with("can't set protected config")
        );
        let mut near = Bench::new(local, true);
        assert_eq!(near.set(&["dir", "/x", "requirepass", "secret"]), "+OK\r\n");
        assert_eq!(near.server.config.dir.as_bytes(), b"/x");
        assert_eq!(near.server.slowlog.redacted, [5]);
    }

    #[test]
    fn rewriting_the_file() {
        let mut bench = Bench::new(Config::default(), true);
        let words = ["config", "rewrite"];
        assert_eq!(
            bench.run(rewrite_command, &words),
            "ERR The server is running without a config file"
        );
        bench.server.config_file = "/readonly/r.conf".into();
        assert_eq!(
            bench.run(rewrite_command, &words),
            "ERR Rewriting config file: Read-only file system"
        );

        let path = PathBuf::from("/r.conf");
        bench.server.config_file = "/r.conf".into();
        let old = b"requirepass foobared\nuser worker on >pw ~*\n".to_vec();
        bench.outside.files.insert(path.clone(), old);
        bench.server.config.user = vec![["worker", "on", "~\"*"].map(Text::from).to_vec()];
        bench.server.load_users_at_start(&bench.outside).unwrap();
        assert_eq!(bench.set(&["requirepass", "foobared"]), "+OK\r\n");
        assert_eq!(bench.run(rewrite_command, &words), "+OK\r\n");
        let text = String::from_utf8(bench.outside.files[&path].clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "requirepass \"foobared\"",
                "user default on sanitize-payload \
                 #1b58ee375b42e41f0e48ef2ff27d10a5b1f6924a9acdcdba7cae868e7adce6bf ~* &* +@all"
            ]
        );
        let quoted = r#"user worker on sanitize-payload "~\"*" resetchannels -@all"#;
        assert!(lines.contains(&quoted), "{text}");
    }
}
