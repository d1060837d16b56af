//! The disk as it is: appends that are synced one by one, and a file that is read and sent.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use super::{Latency, Made, Orders, Ready, Work, raw, say};
use crate::cli::Failure;

fn failed(path: &Path, why: &std::io::Error) -> Failure {
    Failure::user(
        format!("{}: {why}", path.display()),
        "name a folder of yours with --data DIR",
    )
}

/// Appends `bytes` and syncs, again and again.
pub(super) fn append(
    orders: &Orders,
    path: &Path,
    bytes: usize,
    work: Work,
) -> Result<(), Failure> {
    let failed = |why: std::io::Error| failed(path, &why);
    let mut file = File::create(path).map_err(failed)?;
    let block = vec![0x5a; bytes];
    say(&Ready::default())?;
    orders.wait();
    let began = Instant::now();
    let mut took = Vec::new();
    while !work.is_over(took.len() as u64, began) {
        let start = Instant::now();
        file.write_all(&block).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        took.push(start.elapsed());
    }
    let seconds = began.elapsed().as_secs_f64();
    std::fs::remove_file(path).map_err(failed)?;
    let count = took.len() as u64;
    say(&Made {
        count,
        confirmed: count,
        seconds,
        latency: Latency::of(took),
        ..Made::default()
    })?;
    orders.wait();
    Ok(())
}

/// Reads the file and sends it.
pub(super) fn serve(orders: &Orders, path: &Path, frame_bytes: usize) -> Result<(), Failure> {
    let mut file = File::open(path).map_err(|why| failed(path, &why))?;
    raw::serve(orders, frame_bytes, |buffer| {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..])? {
                0 => break,
                bytes => filled += bytes,
            }
        }
        Ok(filled)
    })
}
