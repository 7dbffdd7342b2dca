//! Modes that put something to the test: `--pipe` sends what comes in as it is, `--lru-test` is a cache's work load, and
//! `--intrinsic-latency` has nothing to do with a server: it measures for how long the system leaves a process without
//! the processor.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::link::{Link, LinkError};
use super::out::{self, Stop, complain, lossy, say};
use super::session::Session;
use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::resp::value::Value;

const PIECE_MAX: usize = 16 * 1024;
const MARK_LEN: usize = 20;

/// `--pipe`: sends the standard input, counts the replies, and ends when the reply to a last ECHO of its own comes.
pub fn pipe(mut link: Link, timeout_s: i32) -> Result<(), Stop> {
    link.set_nonblocking().map_err(|error| {
        complain!("Can't set the socket in non blocking mode: {error}\n");
        Stop(1)
    })?;
    let mut mark = [0; MARK_LEN];
    Rng::from_entropy().fill(&mut mark);
    let clock = Clock::system();
    let now_s = || clock.mono_ns() / 1_000_000_000;
    let (mut errors, mut replies, mut all_read) = (0u64, 0u64, false);
    let mut last_reply_s = now_s();
    'turns: loop {
        let wants = match link.has_output() || !all_read {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        let ready = wait_second(&link, wants);
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            let gone = link.fill_ready().is_err();
            loop {
                match link.next_arrived() {
                    Ok(None) => break,
                    Ok(Some(Value::Bulk(text))) if all_read && text == mark => {
                        say!("Last reply received from server.\n");
                        break 'turns;
                    }
                    Ok(Some(value)) => {
                        if let Value::Error(text) = &value {
                            complain!("{}\n", lossy(text));
                            errors += 1;
                        }
                        replies += u64::from(!value.is_push());
                        last_reply_s = now_s();
                    }
                    Err(_) => {
                        complain!("Error reading replies from server\n");
                        return Err(Stop(1));
                    }
                }
            }
            // What had been said before the end was still worth reading.
            if gone {
                complain!("Error reading replies from server\n");
                return Err(Stop(1));
            }
        }
        if ready.contains(PollFlags::OUT) {
            feed(&mut link, &mut all_read, &mark)?;
        }
        let waited_s = now_s().saturating_sub(last_reply_s);
        if all_read && timeout_s > 0 && waited_s > u64::from(timeout_s.unsigned_abs()) {
            complain!("No replies for {timeout_s} seconds: exiting.\n");
            errors += 1;
            break;
        }
    }
    say!("errors: {errors}, replies: {replies}\n");
    match errors {
        0 => Ok(()),
        _ => Err(Stop(1)),
    }
}

/// Sends what there is room for, and reads on when all of it went out.
fn feed(link: &mut Link, all_read: &mut bool, mark: &[u8]) -> Result<(), Stop> {
    link.flush_ready().map_err(|error| {
        complain!("Error writing to the server: {error}\n");
        Stop(1)
    })?;
    if link.has_output() || *all_read {
        return Ok(());
    }
    let mut piece = vec![0; PIECE_MAX];
    match std::io::stdin().read(&mut piece) {
        Ok(0) => {
            *all_read = true;
            // What came before may have ended in the middle of a line.
            link.append_raw(b"\r\n");
            link.append(&[b"ECHO", mark]);
            say!("All data transferred. Waiting for the last reply...\n");
        }
        Ok(n) => link.append_raw(&piece[..n]),
        Err(error) => {
            let why = crate::base::errno::text(&error);
            complain!("Error reading from stdin: {why}\n");
            return Err(Stop(1));
        }
    }
    Ok(())
}

fn wait_second(link: &Link, wants: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(link, wants)];
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    match poll(&mut fds, Some(&second)) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

const LRU_CYCLE_MS: u64 = 1000;
const LRU_PIPELINE: usize = 250;

/// A number from 1 to `n`: a fifth of them come up four times out of five.
fn skewed(n: i64, rng: &mut Rng) -> i64 {
    const POWER: f64 = 7.2;
    let (low, high) = (1.0f64, n as f64 + 1.0);
    let span = high.powf(POWER) - low.powf(POWER);
    let drawn = (span * rng.f64() + low.powf(POWER)).powf(1.0 / POWER);
    n.saturating_sub(drawn as i64).saturating_add(1)
}

/// `--lru-test`: writes and reads keys, and tells every second how many were found.
pub fn lru(session: &mut Session) -> Result<(), Stop> {
    let keys = session.options.lru_keys;
    let link = session.link()?;
    let (mut rng, clock) = (Rng::from_entropy(), Clock::system());
    let broken = |_: LinkError| {
        complain!("I/O error during LRU test\n");
        Stop(1)
    };
    loop {
        let (mut hits, mut misses) = (0u64, 0u64);
        let start_ns = clock.mono_ns();
        while clock.mono_ns() - start_ns < LRU_CYCLE_MS * 1_000_000 {
            for _ in 0..LRU_PIPELINE {
                let value: Vec<u8> = (0..5).map(|_| b'A' + rng.below(57) as u8).collect();
                let key = format!("lru:{}", skewed(keys, &mut rng));
                link.append(&[b"SET", key.as_bytes(), &value]);
            }
            for _ in 0..LRU_PIPELINE {
                link.reply().map_err(broken)?;
            }
            for _ in 0..LRU_PIPELINE {
                let key = format!("lru:{}", skewed(keys, &mut rng));
                link.append(&[b"GET", key.as_bytes()]);
            }
            for _ in 0..LRU_PIPELINE {
                match link.reply().map_err(broken)? {
                    Value::Error(text) => complain!("{}\n", lossy(&text)),
                    Value::Null => misses += 1,
                    _ => hits += 1,
                }
            }
        }
        let all = hits + misses;
        let share = |part: u64| part as f64 / all as f64 * 100.0;
        say!(
            "{all} Gets/sec | Hits: {hits} ({:.2}%) | Misses: {misses} ({:.2}%)\n",
            share(hits),
            share(misses)
        );
        out::flush();
    }
}

/// Some work of a few microseconds, which the compiler cannot leave out: RC4's shuffle.
fn some_work() -> u64 {
    let mut s: [u8; 256] = std::array::from_fn(|at| at as u8);
    let (mut i, mut j, mut sum) = (0u8, 0u8, 0u64);
    for _ in 0..1000 {
        i = i.wrapping_add(1);
        j = j.wrapping_add(s[usize::from(i)]);
        s.swap(usize::from(i), usize::from(j));
        let at = s[usize::from(i)].wrapping_add(s[usize::from(j)]);
        sum += u64::from(s[usize::from(at)]);
    }
    sum
}

/// `--intrinsic-latency`.
pub fn intrinsic(seconds: i32) -> Result<(), Stop> {
    let stopped = Arc::new(AtomicBool::new(false));
    // (Without it Ctrl-C ends the program, which is nearly as good.)
    let _ = signal_hook::flag::register(libc::SIGINT, stopped.clone());
    let clock = Clock::system();
    let now_us = || clock.mono_ns() / 1000;
    let run_us = i64::from(seconds) * 1_000_000;
    let from_us = now_us();
    let (mut max_us, mut runs) = (0, 0u64);
    loop {
        let start_us = now_us();
        std::hint::black_box(some_work());
        let end_us = now_us();
        runs += 1;
        let took_us = end_us - start_us;
        if took_us == 0 {
            continue;
        }
        if took_us > max_us {
            max_us = took_us;
            say!("Max latency so far: {max_us} microseconds.\n");
        }
        if stopped.load(Ordering::Relaxed) || (end_us - from_us) as i64 > run_us {
            let avg_us = run_us as f64 / runs as f64;
            say!(
                "\n{runs} total runs (avg latency: {avg_us:.4} microseconds / {:.2} nanoseconds per run).\n",
                avg_us * 1e3
            );
            say!(
                "Worst run took {:.0}x longer than the average latency.\n",
                max_us as f64 / avg_us
            );
            return Ok(());
        }
    }
}
