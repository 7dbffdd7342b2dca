//! The directives: one line each holds all there is to know of one.
//!
//! ```text
//! field: type = default, "name" / "alias" kind(bounds or check) [flags] => what to apply;
//! ```
//!
//! From these lines come `Config`'s fields, their defaults and `ROWS`; parsing, CONFIG GET, SET and
//! REWRITE, the command line and the tests over the example file read nothing else. Fields are named
//! after their directive; bytes and counts are `usize`, times `u64`, what may be negative `i64`.
//!
//! The defaults are Redis 7.2's built-in ones, valid without a file (so `bind` is every interface, where
//! the example file says loopback). Directives that only Redis 7.4 knows are hidden: a file may contain
//! them, and `CONFIG GET *` still shows exactly the names of 7.2.

use super::check;
use super::special;
use super::types::*;

const INT_MAX: i128 = i32::MAX as i128;
const INT_MIN: i128 = i32::MIN as i128;
const UINT_MAX: i128 = u32::MAX as i128;
const LONG_MAX: i128 = i64::MAX as i128;
const ULONG_MAX: i128 = u64::MAX as i128;
const MB: usize = 1024 * 1024;

macro_rules! directives {
    ($(
        $(#[$doc:meta])+
        $field:ident: $type:ty = $default:expr, $name:literal $(/ $alias:literal)?
        $kind:ident $(($($arg:tt)*))? $([$($flag:ident)+])? $(=> $apply:ident)?;
    )+) => {
        /// Every directive's value. `Default` is Redis 7.2 started without a file.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[$doc])+ pub $field: $type,)+
            /// `rename-command` lines in order: the old name, and the new one or nothing.
            pub rename_command: Vec<(Text, Text)>,
            /// `user` lines: the name, then its rules.
            pub user: Vec<Vec<Text>>,
        }

        impl Default for Config {
            fn default() -> Config {
                Config {
                    $($field: $default,)+
                    rename_command: Vec::new(),
                    user: Vec::new(),
                }
            }
        }

        /// Every directive, in the order of the reference below.
        pub static ROWS: &[Row] = &[$(
            Row {
                name: $name,
                alias: directives!(@alias $($alias)?),
                flags: 0 $($(| flag::$flag)+)?,
                apply: directives!(@apply $($apply)?),
                kind: directives!(@kind $field $kind $($($arg)*)?),
            },
        )+];
    };
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
    (@apply) => { Apply::Nothing };
    (@apply $apply:ident) => { Apply::$apply };
    (@kind $f:ident yesno) => {
        Kind::YesNo { get: |c| c.$f, set: |c, v| c.$f = v }
    };
    (@kind $f:ident int $low:expr, $high:expr) => {
        directives!(@number $f Plain $low, $high)
    };
    (@kind $f:ident memory $low:expr, $high:expr) => {
        directives!(@number $f Memory $low, $high)
    };
    (@kind $f:ident memory_or_percent $low:expr, $high:expr) => {
        directives!(@number $f MemoryOrPercent $low, $high)
    };
    (@kind $f:ident octal $low:expr, $high:expr) => {
        directives!(@number $f Octal $low, $high)
    };
    (@number $f:ident $unit:ident $low:expr, $high:expr) => {
        Kind::Number {
            get: |c| c.$f.wide(),
            set: |c, v| c.$f = Number::narrow(v),
            low: $low,
            high: $high,
            unit: Unit::$unit,
        }
    };
    (@kind $f:ident text) => {
        Kind::Text { get: |c| &c.$f, set: |c, v| c.$f = v, check: None }
    };
    (@kind $f:ident text $check:expr) => {
        Kind::Text { get: |c| &c.$f, set: |c, v| c.$f = v, check: Some($check) }
    };
    (@kind $f:ident choice $type:ident) => {
        Kind::Choice {
            names: $type::NAMES,
            get: |c| c.$f.code(),
            set: |c, v| c.$f = $type::from_code(v),
            check: None,
        }
    };
    (@kind $f:ident choice $type:ident, $check:expr) => {
        Kind::Choice {
            names: $type::NAMES,
            get: |c| c.$f.code(),
            set: |c, v| c.$f = $type::from_code(v),
            check: Some($check),
        }
    };
    (@kind $f:ident special $functions:expr) => { Kind::Special($functions) };
}

directives! {
    // Network
    /// The addresses to listen on; `*` and `::*` are all of a family, a leading `-` means "if it exists".
    bind: Vec<Text> = vec!["*".into(), "-::*".into()], "bind" special(special::BIND) [MULTI_ARG] => Bind;
    /// The address that outgoing connections leave from.
    bind_source_addr: Text = "".into(), "bind-source-addr" text [OPTIONAL];
    /// Without a password only local clients are served.
    protected_mode: bool = true, "protected-mode" yesno;
    /// Whether CONFIG SET may change directives that name files.
    enable_protected_configs: ProtectedAction = ProtectedAction::No, "enable-protected-configs" choice(ProtectedAction) [IMMUTABLE];
    /// Whether DEBUG is allowed.
    enable_debug_command: ProtectedAction = ProtectedAction::No, "enable-debug-command" choice(ProtectedAction) [IMMUTABLE];
    /// Whether MODULE is allowed.
    enable_module_command: ProtectedAction = ProtectedAction::No, "enable-module-command" choice(ProtectedAction) [IMMUTABLE];
    /// The TCP port; 0 means none.
    port: u16 = 6379, "port" int(0, 65535) => Port;
    /// The length of the kernel's queue of connections not yet accepted.
    tcp_backlog: u32 = 511, "tcp-backlog" int(0, INT_MAX) [IMMUTABLE];
    /// The path of the Unix socket.
    unixsocket: Text = "".into(), "unixsocket" text [IMMUTABLE OPTIONAL];
    /// Its permissions; 0 leaves them to the umask.
    unixsocketperm: u32 = 0, "unixsocketperm" octal(0, 0o777) [IMMUTABLE];
    /// Seconds after which an idle client is closed; 0 means never.
    timeout: u64 = 0, "timeout" int(0, INT_MAX);
    /// Seconds between TCP keepalive probes; 0 means none.
    tcp_keepalive: u32 = 300, "tcp-keepalive" int(0, INT_MAX);
    /// The mark (SO_MARK and kin) put on listening sockets; 0 means none.
    socket_mark_id: u32 = 0, "socket-mark-id" int(0, UINT_MAX) [IMMUTABLE];
    /// Clients accepted in one turn of the loop.
    max_new_connections_per_cycle: u32 = 10, "max-new-connections-per-cycle" int(1, 1000) [HIDDEN];
    /// TLS clients accepted in one turn of the loop.
    max_new_tls_connections_per_cycle: u32 = 1, "max-new-tls-connections-per-cycle" int(1, 1000) [HIDDEN];

    // TLS
    /// The TLS port; 0 means none.
    tls_port: u16 = 0, "tls-port" int(0, 65535) => TlsPort;
    /// The server's certificate.
    tls_cert_file: Text = "".into(), "tls-cert-file" text [VOLATILE OPTIONAL] => Tls;
    /// Its key.
    tls_key_file: Text = "".into(), "tls-key-file" text [VOLATILE OPTIONAL] => Tls;
    /// The pass phrase of the key.
    tls_key_file_pass: Text = "".into(), "tls-key-file-pass" text [OPTIONAL] => Tls;
    /// The certificate for outgoing connections, where it differs.
    tls_client_cert_file: Text = "".into(), "tls-client-cert-file" text [VOLATILE OPTIONAL] => Tls;
    /// Its key.
    tls_client_key_file: Text = "".into(), "tls-client-key-file" text [VOLATILE OPTIONAL] => Tls;
    /// The pass phrase of that key.
    tls_client_key_file_pass: Text = "".into(), "tls-client-key-file-pass" text [OPTIONAL] => Tls;
    /// Diffie-Hellman parameters.
    tls_dh_params_file: Text = "".into(), "tls-dh-params-file" text [VOLATILE OPTIONAL] => Tls;
    /// The authorities that sign clients' certificates.
    tls_ca_cert_file: Text = "".into(), "tls-ca-cert-file" text [VOLATILE OPTIONAL] => Tls;
    /// A directory of them.
    tls_ca_cert_dir: Text = "".into(), "tls-ca-cert-dir" text [VOLATILE OPTIONAL] => Tls;
    /// Whether clients must show a certificate.
    tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes, "tls-auth-clients" choice(TlsAuthClients);
    /// TLS on the link to the master.
    tls_replication: bool = false, "tls-replication" yesno => Tls;
    /// TLS on the cluster bus.
    tls_cluster: bool = false, "tls-cluster" yesno => Tls;
    /// The versions of TLS to speak.
    tls_protocols: Text = "".into(), "tls-protocols" text [OPTIONAL] => Tls;
    /// Ciphers up to TLS 1.2.
    tls_ciphers: Text = "".into(), "tls-ciphers" text [OPTIONAL] => Tls;
    /// Cipher suites of TLS 1.3.
    tls_ciphersuites: Text = "".into(), "tls-ciphersuites" text [OPTIONAL] => Tls;
    /// The server's order of ciphers wins.
    tls_prefer_server_ciphers: bool = false, "tls-prefer-server-ciphers" yesno => Tls;
    /// Sessions may be resumed.
    tls_session_caching: bool = true, "tls-session-caching" yesno => Tls;
    /// Sessions remembered; 0 means no limit.
    tls_session_cache_size: usize = 20 * 1024, "tls-session-cache-size" int(0, INT_MAX) => Tls;
    /// Seconds for which they are.
    tls_session_cache_timeout: u64 = 300, "tls-session-cache-timeout" int(0, INT_MAX) => Tls;

    // General
    /// Run in the background.
    daemonize: bool = false, "daemonize" yesno [IMMUTABLE];
    /// Who waits to hear that the server is ready.
    supervised: Supervised = Supervised::No, "supervised" choice(Supervised) [IMMUTABLE];
    /// The file that holds the process id.
    pidfile: Text = "".into(), "pidfile" text [IMMUTABLE OPTIONAL];
    /// How much is logged.
    loglevel: LogLevel = LogLevel::Notice, "loglevel" choice(LogLevel) => Loglevel;
    /// The log file; empty means standard output.
    logfile: Text = "".into(), "logfile" text [IMMUTABLE];
    /// Log to syslog.
    syslog_enabled: bool = false, "syslog-enabled" yesno [IMMUTABLE];
    /// The name there.
    syslog_ident: Text = "redis".into(), "syslog-ident" text [IMMUTABLE];
    /// The facility there.
    syslog_facility: SyslogFacility = SyslogFacility::Local0, "syslog-facility" choice(SyslogFacility) [IMMUTABLE];
    /// Write a report when the server crashes.
    crash_log_enabled: bool = true, "crash-log-enabled" yesno => CrashLog;
    /// Test the memory as part of it.
    crash_memcheck_enabled: bool = true, "crash-memcheck-enabled" yesno;
    /// Keep users' data out of logs and crash reports.
    hide_user_data_from_log: bool = false, "hide-user-data-from-log" yesno [HIDDEN] => Loglevel;
    /// End a panic with `exit`, not with a signal.
    use_exit_on_panic: bool = false, "use-exit-on-panic" yesno [HIDDEN];
    /// Databases for SELECT.
    databases: usize = 16, "databases" int(1, INT_MAX) [IMMUTABLE];
    /// Show the logo even where the log is not a terminal.
    always_show_logo: bool = false, "always-show-logo" yesno [IMMUTABLE];
    /// Tell `ps` what this process is.
    set_proc_title: bool = true, "set-proc-title" yesno [IMMUTABLE];
    /// In which words.
    proc_title_template: Text = "{title} {listen-addr} {server-mode}".into(), "proc-title-template" text(check::proc_title_template) => ProcTitle;
    /// The locale by which strings are compared; empty takes it from the environment.
    locale_collate: Text = "".into(), "locale-collate" text => LocaleCollate;
    /// Names of start-up checks whose warning does not stop the start.
    ignore_warnings: Text = "".into(), "ignore-warnings" text;

    // Snapshots
    /// Save once both this many seconds passed and this many changes happened.
    save: Vec<(u64, u64)> = vec![(3600, 1), (300, 100), (60, 10000)], "save" special(special::SAVE) [MULTI_ARG];
    /// Refuse writes while the last background save failed.
    stop_writes_on_bgsave_error: bool = true, "stop-writes-on-bgsave-error" yesno;
    /// Compress strings in RDB files.
    rdbcompression: bool = true, "rdbcompression" yesno;
    /// End RDB files with a checksum.
    rdbchecksum: bool = true, "rdbchecksum" yesno [IMMUTABLE];
    /// The version of the RDB files to write: 11, or 10 for what Redis 7.0 can read (a directive of Redstart's).
    rdb_version: u32 = 11, "rdb-version" int(10, 11) [HIDDEN];
    /// Whether a payload is checked in depth while it is loaded.
    sanitize_dump_payload: SanitizeDumpPayload = SanitizeDumpPayload::No, "sanitize-dump-payload" choice(SanitizeDumpPayload) [DEBUG];
    /// The RDB file's name.
    dbfilename: Text = "dump.rdb".into(), "dbfilename" text(check::dbfilename) [PROTECTED];
    /// Remove RDB files that only served replication.
    rdb_del_sync_files: bool = false, "rdb-del-sync-files" yesno;
    /// Sync an RDB file every few megabytes while it is written.
    rdb_save_incremental_fsync: bool = true, "rdb-save-incremental-fsync" yesno;
    /// Give a background save up when its snapshot holds more memory than this; 0 for no limit (a directive of
    /// Redstart's).
    snapshot_memory_limit: usize = 0, "snapshot-memory-limit" memory(0, ULONG_MAX) [HIDDEN];
    /// Microseconds to pause at each key saved (tests).
    rdb_key_save_delay: i64 = 0, "rdb-key-save-delay" int(INT_MIN, INT_MAX) [HIDDEN];
    /// Microseconds to pause at each key loaded (tests).
    key_load_delay: i64 = 0, "key-load-delay" int(INT_MIN, INT_MAX) [HIDDEN];
    /// Bytes loaded between two looks at the clients.
    loading_process_events_interval_bytes: usize = 2 * MB, "loading-process-events-interval-bytes" int(1024, INT_MAX) [HIDDEN];
    /// The working directory, absolute once the server runs.
    dir: Text = "".into(), "dir" special(special::DIR) [PROTECTED DENY_LOADING];

    // Replication
    /// The master to follow.
    replicaof: Option<ReplicaOf> = None, "replicaof" / "slaveof" special(special::REPLICAOF) [IMMUTABLE MULTI_ARG];
    /// The password for the master.
    masterauth: Text = "".into(), "masterauth" text [SENSITIVE OPTIONAL];
    /// The user there.
    masteruser: Text = "".into(), "masteruser" text [SENSITIVE OPTIONAL];
    /// Answer from old data while the link is down.
    replica_serve_stale_data: bool = true, "replica-serve-stale-data" / "slave-serve-stale-data" yesno;
    /// A replica refuses writes.
    replica_read_only: bool = true, "replica-read-only" / "slave-read-only" yesno [DEBUG];
    /// Send a full sync without writing a file.
    repl_diskless_sync: bool = true, "repl-diskless-sync" yesno [DEBUG];
    /// Seconds to wait for more replicas before it starts.
    repl_diskless_sync_delay: u64 = 5, "repl-diskless-sync-delay" int(0, INT_MAX);
    /// Replicas that end the wait; 0 means the delay alone does.
    repl_diskless_sync_max_replicas: usize = 0, "repl-diskless-sync-max-replicas" int(0, INT_MAX);
    /// Load a full sync straight from the socket.
    repl_diskless_load: ReplDisklessLoad = ReplDisklessLoad::Disabled, "repl-diskless-load" choice(ReplDisklessLoad) [DEBUG DENY_LOADING];
    /// A replica with data takes no full sync that has none (a directive of Redstart's).
    replica_refuse_empty_master: bool = false, "replica-refuse-empty-master" yesno [HIDDEN];
    /// Seconds between the master's pings.
    repl_ping_replica_period: u64 = 10, "repl-ping-replica-period" / "repl-ping-slave-period" int(1, INT_MAX);
    /// Seconds of silence after which a link counts as dead.
    repl_timeout: u64 = 60, "repl-timeout" int(1, INT_MAX);
    /// Fewer, larger packets to replicas, at the price of delay.
    repl_disable_tcp_nodelay: bool = false, "repl-disable-tcp-nodelay" yesno;
    /// Bytes of the replication stream kept for replicas that come back.
    repl_backlog_size: usize = MB, "repl-backlog-size" memory(1, LONG_MAX) => ReplBacklogSize;
    /// Seconds it is kept without replicas; 0 means forever.
    repl_backlog_ttl: u64 = 3600, "repl-backlog-ttl" int(0, LONG_MAX);
    /// Lower wins when Sentinel picks a new master; 0 means never.
    replica_priority: u32 = 100, "replica-priority" / "slave-priority" int(0, INT_MAX);
    /// Whether to panic when a replicated command fails.
    propagation_error_behavior: PropagationErrorBehavior = PropagationErrorBehavior::Ignore, "propagation-error-behavior" choice(PropagationErrorBehavior);
    /// A replica goes on when it cannot write to disk.
    replica_ignore_disk_write_errors: bool = false, "replica-ignore-disk-write-errors" yesno;
    /// Sentinel reports this replica to clients.
    replica_announced: bool = true, "replica-announced" yesno;
    /// Refuse writes with fewer good replicas; 0 means never.
    min_replicas_to_write: u32 = 0, "min-replicas-to-write" / "min-slaves-to-write" int(0, INT_MAX) => GoodReplicas;
    /// Seconds of lag up to which a replica is good.
    min_replicas_max_lag: u64 = 10, "min-replicas-max-lag" / "min-slaves-max-lag" int(0, INT_MAX) => GoodReplicas;
    /// The address a replica reports.
    replica_announce_ip: Text = "".into(), "replica-announce-ip" / "slave-announce-ip" text [OPTIONAL];
    /// The port a replica reports; 0 means its own.
    replica_announce_port: u16 = 0, "replica-announce-port" / "slave-announce-port" int(0, 65535);

    // Clients' caches
    /// Keys remembered for client-side caching; 0 means no limit.
    tracking_table_max_keys: usize = 1_000_000, "tracking-table-max-keys" int(0, LONG_MAX);

    // Security
    /// The file of ACL users.
    aclfile: Text = "".into(), "aclfile" text [IMMUTABLE];
    /// Entries of the ACL log.
    acllog_max_len: usize = 128, "acllog-max-len" int(0, LONG_MAX);
    /// The password of the default user.
    requirepass: Text = "".into(), "requirepass" text [SENSITIVE OPTIONAL] => RequirePass;
    /// Channels that a new user may use.
    acl_pubsub_default: AclPubsubDefault = AclPubsubDefault::Resetchannels, "acl-pubsub-default" choice(AclPubsubDefault);

    // Limits
    /// Clients at a time.
    maxclients: usize = 10000, "maxclients" int(1, UINT_MAX) => Maxclients;
    /// Bytes to use; 0 means no limit.
    maxmemory: usize = 0, "maxmemory" memory(0, ULONG_MAX) => Maxmemory;
    /// What to evict then.
    maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::NoEviction, "maxmemory-policy" choice(MaxmemoryPolicy);
    /// Keys sampled for each eviction.
    maxmemory_samples: usize = 5, "maxmemory-samples" int(1, INT_MAX);
    /// How long a turn may evict, 0 to 100.
    maxmemory_eviction_tenacity: u32 = 10, "maxmemory-eviction-tenacity" int(0, 100);
    /// A replica leaves eviction to its master.
    replica_ignore_maxmemory: bool = true, "replica-ignore-maxmemory" / "slave-ignore-maxmemory" yesno;
    /// How hard expired keys are looked for, 1 to 10.
    active_expire_effort: u32 = 1, "active-expire-effort" int(1, 10);
    /// Bytes of all clients' buffers together, negative for percents of `maxmemory`; 0 means no limit.
    maxmemory_clients: i64 = 0, "maxmemory-clients" memory_or_percent(-100, LONG_MAX) => MaxmemoryClients;
    /// By class: normal, replica, pubsub.
    client_output_buffer_limit: [ClientBufferLimit; 3] = special::BUFFER_LIMITS, "client-output-buffer-limit" special(special::CLIENT_OUTPUT_BUFFER_LIMIT) [MULTI_ARG];
    /// Bytes of a client's unread requests.
    client_query_buffer_limit: usize = 1024 * MB, "client-query-buffer-limit" memory(1024 * 1024, LONG_MAX) [DEBUG];
    /// Bytes of one argument.
    proto_max_bulk_len: usize = 512 * MB, "proto-max-bulk-len" memory(1024 * 1024, LONG_MAX) [DEBUG];

    // Lazy freeing
    /// Free evicted values in the background.
    lazyfree_lazy_eviction: bool = false, "lazyfree-lazy-eviction" yesno [DEBUG];
    /// Expired ones.
    lazyfree_lazy_expire: bool = false, "lazyfree-lazy-expire" yesno [DEBUG];
    /// Overwritten ones.
    lazyfree_lazy_server_del: bool = false, "lazyfree-lazy-server-del" yesno [DEBUG];
    /// DEL's, as UNLINK does.
    lazyfree_lazy_user_del: bool = false, "lazyfree-lazy-user-del" yesno [DEBUG];
    /// FLUSHALL's and FLUSHDB's.
    lazyfree_lazy_user_flush: bool = false, "lazyfree-lazy-user-flush" yesno [DEBUG];
    /// The dataset that a full sync replaces.
    replica_lazy_flush: bool = false, "replica-lazy-flush" / "slave-lazy-flush" yesno;

    // Threads, processors, the kernel
    /// Threads for sockets.
    io_threads: usize = 1, "io-threads" int(1, 128) [IMMUTABLE DEBUG];
    /// They read as well.
    io_threads_do_reads: bool = false, "io-threads-do-reads" yesno [IMMUTABLE DEBUG];
    /// Processors for the server's thread.
    server_cpulist: Text = "".into(), "server_cpulist" / "server-cpulist" text [IMMUTABLE OPTIONAL HIDDEN_ALIAS];
    /// For background threads.
    bio_cpulist: Text = "".into(), "bio_cpulist" / "bio-cpulist" text [IMMUTABLE OPTIONAL HIDDEN_ALIAS];
    /// For the rewrite of the append only file.
    aof_rewrite_cpulist: Text = "".into(), "aof_rewrite_cpulist" / "aof-rewrite-cpulist" text [IMMUTABLE OPTIONAL HIDDEN_ALIAS];
    /// For background saves.
    bgsave_cpulist: Text = "".into(), "bgsave_cpulist" / "bgsave-cpulist" text [IMMUTABLE OPTIONAL HIDDEN_ALIAS];
    /// Whether to set the OOM killer's score.
    oom_score_adj: OomScoreAdj = OomScoreAdj::No, "oom-score-adj" choice(OomScoreAdj) => OomScoreAdj;
    /// The scores of a master, a replica and a background job.
    oom_score_adj_values: [i32; 3] = special::OOM_SCORES, "oom-score-adj-values" special(special::OOM_SCORE_ADJ_VALUES) [MULTI_ARG] => OomScoreAdj;
    /// Keep transparent huge pages off.
    disable_thp: bool = true, "disable-thp" yesno [IMMUTABLE];

    // Append only file
    /// Log every change.
    appendonly: bool = false, "appendonly" yesno [DENY_LOADING] => Appendonly;
    /// The base name of its files.
    appendfilename: Text = "appendonly.aof".into(), "appendfilename" text(check::appendfilename) [IMMUTABLE];
    /// The directory they lie in.
    appenddirname: Text = "appendonlydir".into(), "appenddirname" text(check::appenddirname) [IMMUTABLE];
    /// When it is synced.
    appendfsync: AppendFsync = AppendFsync::Everysec, "appendfsync" choice(AppendFsync) => AppendFsync;
    /// Not while a save or a rewrite is under way.
    no_appendfsync_on_rewrite: bool = false, "no-appendfsync-on-rewrite" yesno;
    /// Growth in percent that starts a rewrite; 0 means never.
    auto_aof_rewrite_percentage: u32 = 100, "auto-aof-rewrite-percentage" int(0, INT_MAX);
    /// Bytes below which it is not rewritten.
    auto_aof_rewrite_min_size: usize = 64 * MB, "auto-aof-rewrite-min-size" memory(0, LONG_MAX);
    /// Load a file whose end is cut off.
    aof_load_truncated: bool = true, "aof-load-truncated" yesno;
    /// A rewrite writes its base as RDB.
    aof_use_rdb_preamble: bool = true, "aof-use-rdb-preamble" yesno;
    /// Note times in the file.
    aof_timestamp_enabled: bool = false, "aof-timestamp-enabled" yesno;
    /// Sync a rewrite every few megabytes while it is written.
    aof_rewrite_incremental_fsync: bool = true, "aof-rewrite-incremental-fsync" yesno;
    /// Keep files that are no longer used (tests).
    aof_disable_auto_gc: bool = false, "aof-disable-auto-gc" yesno [HIDDEN] => AofAutoGc;

    // Shutdown
    /// Seconds to wait for replicas.
    shutdown_timeout: u64 = 10, "shutdown-timeout" int(0, INT_MAX);
    /// What SIGINT does.
    shutdown_on_sigint: ShutdownFlags = ShutdownFlags(0), "shutdown-on-sigint" choice(ShutdownFlags, check::shutdown_flags) [MULTI_ARG];
    /// What SIGTERM does.
    shutdown_on_sigterm: ShutdownFlags = ShutdownFlags(0), "shutdown-on-sigterm" choice(ShutdownFlags, check::shutdown_flags) [MULTI_ARG];

    // Scripts
    /// Milliseconds after which a running script makes others wait no longer: they get -BUSY.
    busy_reply_threshold: u64 = 5000, "busy-reply-threshold" / "lua-time-limit" int(0, LONG_MAX);

    // Cluster
    /// Be a node of a cluster.
    cluster_enabled: bool = false, "cluster-enabled" yesno [IMMUTABLE];
    /// The file that the node keeps its view of the cluster in.
    cluster_config_file: Text = "nodes.conf".into(), "cluster-config-file" text [IMMUTABLE];
    /// Milliseconds of silence after which a node counts as failing.
    cluster_node_timeout: u64 = 15000, "cluster-node-timeout" int(0, LONG_MAX);
    /// Milliseconds between pings; 0 means by the node timeout (tests).
    cluster_ping_interval: u64 = 0, "cluster-ping-interval" int(0, LONG_MAX) [HIDDEN];
    /// The port of the bus; 0 means the data port + 10000.
    cluster_port: u16 = 0, "cluster-port" int(0, 65535) [IMMUTABLE];
    /// How stale a replica may be and still fail over, in node timeouts; 0 means any.
    cluster_replica_validity_factor: u32 = 10, "cluster-replica-validity-factor" / "cluster-slave-validity-factor" int(0, INT_MAX);
    /// Replicas a master keeps before one moves to an orphan.
    cluster_migration_barrier: u32 = 1, "cluster-migration-barrier" int(0, INT_MAX);
    /// Replicas may move.
    cluster_allow_replica_migration: bool = true, "cluster-allow-replica-migration" yesno;
    /// Serve only while every slot has a node.
    cluster_require_full_coverage: bool = true, "cluster-require-full-coverage" yesno;
    /// This replica never fails over by itself.
    cluster_replica_no_failover: bool = false, "cluster-replica-no-failover" / "cluster-slave-no-failover" yesno => ClusterFlags;
    /// Serve reads while the cluster is down.
    cluster_allow_reads_when_down: bool = false, "cluster-allow-reads-when-down" yesno;
    /// Serve sharded pubsub then.
    cluster_allow_pubsubshard_when_down: bool = true, "cluster-allow-pubsubshard-when-down" yesno;
    /// Bytes queued for one node of the bus; 0 means no limit.
    cluster_link_sendbuf_limit: usize = 0, "cluster-link-sendbuf-limit" memory(0, ULONG_MAX);
    /// The host name to announce.
    cluster_announce_hostname: Text = "".into(), "cluster-announce-hostname" text(check::hostname) [OPTIONAL] => ClusterHostname;
    /// The name for people to announce.
    cluster_announce_human_nodename: Text = "".into(), "cluster-announce-human-nodename" text(check::nodename) [OPTIONAL] => ClusterHumanNodename;
    /// What a redirection names a node by.
    cluster_preferred_endpoint_type: ClusterPreferredEndpointType = ClusterPreferredEndpointType::Ip, "cluster-preferred-endpoint-type" choice(ClusterPreferredEndpointType);
    /// The address to announce.
    cluster_announce_ip: Text = "".into(), "cluster-announce-ip" text [OPTIONAL] => ClusterIp;
    /// The port to announce; 0 means its own.
    cluster_announce_port: u16 = 0, "cluster-announce-port" int(0, 65535) => ClusterAnnouncedPort;
    /// The TLS port to announce.
    cluster_announce_tls_port: u16 = 0, "cluster-announce-tls-port" int(0, 65535) => ClusterAnnouncedPort;
    /// The bus port to announce.
    cluster_announce_bus_port: u16 = 0, "cluster-announce-bus-port" int(0, 65535) => ClusterAnnouncedPort;

    // Slow log, latency
    /// Microseconds from which a command is logged; 0 logs all, a negative value none.
    slowlog_log_slower_than: i64 = 10000, "slowlog-log-slower-than" int(-1, LONG_MAX);
    /// Entries of the slow log.
    slowlog_max_len: usize = 128, "slowlog-max-len" int(0, LONG_MAX);
    /// Milliseconds from which the latency monitor notes an event; 0 means off.
    latency_monitor_threshold: u64 = 0, "latency-monitor-threshold" int(0, LONG_MAX);
    /// Keep a histogram for each command.
    latency_tracking: bool = true, "latency-tracking" yesno;
    /// The percentiles of INFO latencystats.
    latency_tracking_info_percentiles: Vec<f64> = vec![50.0, 99.0, 99.9], "latency-tracking-info-percentiles" special(special::PERCENTILES) [MULTI_ARG];
    /// Milliseconds after which a stuck loop is logged; 0 means off.
    watchdog_period: u64 = 0, "watchdog-period" int(0, INT_MAX) [HIDDEN] => Watchdog;

    // Events
    /// The keyspace events to publish.
    notify_keyspace_events: NotifyFlags = NotifyFlags(0), "notify-keyspace-events" special(special::NOTIFY_KEYSPACE_EVENTS);

    // Encodings
    /// Fields up to which a hash is a listpack.
    hash_max_listpack_entries: usize = 512, "hash-max-listpack-entries" / "hash-max-ziplist-entries" int(0, LONG_MAX);
    /// Bytes of a field or value up to which it is.
    hash_max_listpack_value: usize = 64, "hash-max-listpack-value" / "hash-max-ziplist-value" memory(0, LONG_MAX);
    /// Entries of a list's node, or from -1 to -5 its size: 4, 8, 16, 32, 64 kb.
    list_max_listpack_size: i32 = -2, "list-max-listpack-size" / "list-max-ziplist-size" int(INT_MIN, INT_MAX);
    /// Nodes at each end of a list left uncompressed; 0 means all.
    list_compress_depth: u32 = 0, "list-compress-depth" int(0, INT_MAX) [DEBUG];
    /// Members up to which a set of integers is an intset.
    set_max_intset_entries: usize = 512, "set-max-intset-entries" int(0, LONG_MAX);
    /// Members up to which a set is a listpack.
    set_max_listpack_entries: usize = 128, "set-max-listpack-entries" int(0, LONG_MAX);
    /// Bytes of a member up to which it is.
    set_max_listpack_value: usize = 64, "set-max-listpack-value" int(0, LONG_MAX);
    /// Members up to which a sorted set is a listpack.
    zset_max_listpack_entries: usize = 128, "zset-max-listpack-entries" / "zset-max-ziplist-entries" int(0, LONG_MAX);
    /// Bytes of a member up to which it is.
    zset_max_listpack_value: usize = 64, "zset-max-listpack-value" / "zset-max-ziplist-value" memory(0, LONG_MAX);
    /// Bytes up to which a HyperLogLog is sparse.
    hll_sparse_max_bytes: usize = 3000, "hll-sparse-max-bytes" memory(0, LONG_MAX);
    /// Bytes of a stream's node; 0 means no limit.
    stream_node_max_bytes: usize = 4096, "stream-node-max-bytes" memory(0, LONG_MAX);
    /// Entries of a stream's node; 0 means no limit.
    stream_node_max_entries: usize = 100, "stream-node-max-entries" int(0, LONG_MAX);

    // Housekeeping
    /// Give hash tables time outside of commands (Redstart's need none).
    activerehashing: bool = true, "activerehashing" yesno;
    /// Turns of the server's cron a second, 1 to 500.
    hz: u32 = 10, "hz" int(0, INT_MAX) => Hz;
    /// More of them with many clients.
    dynamic_hz: bool = true, "dynamic-hz" yesno;
    /// LFU: how slowly the counter grows.
    lfu_log_factor: u32 = 10, "lfu-log-factor" int(0, INT_MAX);
    /// LFU: minutes after which it shrinks by one; 0 means never.
    lfu_decay_time: u32 = 1, "lfu-decay-time" int(0, INT_MAX);
    /// Move data from pages that are nearly empty, while serving.
    activedefrag: bool = false, "activedefrag" yesno [DEBUG];
    /// Bytes of waste below which it rests.
    active_defrag_ignore_bytes: usize = 100 * MB, "active-defrag-ignore-bytes" memory(1, LONG_MAX);
    /// Percent of waste at which it starts.
    active_defrag_threshold_lower: u32 = 10, "active-defrag-threshold-lower" int(0, 1000);
    /// Percent of waste at which it works hardest.
    active_defrag_threshold_upper: u32 = 100, "active-defrag-threshold-upper" int(0, 1000);
    /// Percent of a processor at the start.
    active_defrag_cycle_min: u32 = 1, "active-defrag-cycle-min" int(1, 99);
    /// And at its hardest.
    active_defrag_cycle_max: u32 = 25, "active-defrag-cycle-max" int(1, 99);
    /// Fields of a collection done in one go.
    active_defrag_max_scan_fields: usize = 1000, "active-defrag-max-scan-fields" int(1, LONG_MAX);
    /// Let jemalloc purge in a thread of its own.
    jemalloc_bg_thread: bool = true, "jemalloc-bg-thread" yesno => JemallocBgThread;
}
