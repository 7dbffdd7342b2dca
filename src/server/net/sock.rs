//! A socket: TCP or Unix, read and written with as few calls as there can be.

use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use mio::net::{TcpStream, UnixStream};
use rustix::net::{RecvFlags, SendFlags};

use super::{PIECES_MAX, WRITE_SHARE};
use crate::resp::reply::Reply;

/// A connection's socket.
pub(super) enum Sock {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Sock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Sock::Tcp(s) => s.as_fd(),
            Sock::Unix(s) => s.as_fd(),
        }
    }
}

/// A request costs one [`Sock::read`] and one [`Sock::write`], most of its time: they call the kernel themselves, since
/// libc's wrappers also prepare for the cancelling of threads.
impl Sock {
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (bytes, _) = rustix::net::recv(self, buf, RecvFlags::empty())?;
        Ok(bytes)
    }

    /// Writes what there is of a reply up to a position, as far as the socket takes it; no more than a share, for a big
    /// piece could keep the kernel busy for long.
    pub fn write(&mut self, reply: &Reply, until: u64) -> io::Result<usize> {
        if let Some(piece) = reply.only_piece()
            && until >= reply.end()
        {
            let piece = &piece[..piece.len().min(WRITE_SHARE)];
            return Ok(rustix::net::send(&*self, piece, SendFlags::NOSIGNAL)?);
        }
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let share_end = reply.start() + WRITE_SHARE as u64;
        let n = reply.io_slices(until.min(share_end), &mut pieces);
        match self {
            Sock::Tcp(s) => s.write_vectored(&pieces[..n]),
            Sock::Unix(s) => s.write_vectored(&pieces[..n]),
        }
    }

    pub fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Sock::Tcp(s) => s.write_vectored(slices),
            Sock::Unix(s) => s.write_vectored(slices),
        }
    }

    /// Reads up to `most` bytes to the end of `buf`, without clearing its memory first.
    pub fn read_more(&self, buf: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        buf.reserve(most);
        let room = &mut buf.spare_capacity_mut()[..most];
        let (_, bytes) = rustix::net::recv(self, room, RecvFlags::empty())?;
        // SAFETY: the kernel has written so many bytes behind those that there were, and there is room for them.
        unsafe { buf.set_len(buf.len() + bytes.min(most)) };
        Ok(bytes)
    }

    pub fn fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
