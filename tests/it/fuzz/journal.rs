//! Segments of a journal with bytes changed at rest: what opens holds a beginning of what was
//! written, and nothing else.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use weft::store::{Disk, DiskFile, SimDisk, examine};
use weft::types::{LoadFrom, LoadRequest};

use super::{damage, fuzz};
use crate::journal_kit::{Work, open, partition};

/// What the disk of a stopped node holds, and what was done to it.
#[derive(Debug)]
struct Damaged {
    work_seed: u64,
    commits: u64,
    /// Pieces of files that are written over, by the file's place in the list.
    pieces: Vec<(usize, u64, Vec<u8>)>,
}

#[test]
fn journal() {
    let make = |random: &mut ChaCha8Rng| Damaged {
        work_seed: random.r#gen(),
        commits: random.gen_range(1..25),
        pieces: (0..random.gen_range(0..4))
            .map(|_| {
                let mut piece = vec![0; random.gen_range(1..60)];
                damage(&mut piece, random);
                (random.r#gen(), random.r#gen(), piece)
            })
            .collect(),
    };
    fuzz("journal", make, |damaged| {
        let disk = SimDisk::new(damaged.work_seed);
        let mut work = Work::new(damaged.work_seed, 3_000);
        let (mut journal, _) = open(&disk).expect("a new journal");
        for _ in 0..damaged.commits {
            let items = work.commit();
            journal.write(&items).expect("written");
        }
        journal.sync().expect("synced");
        drop(journal);
        disk.kill();
        let mut sizes = BTreeMap::new();
        for (file, position, piece) in &damaged.pieces {
            let names = disk.list().expect("names");
            let name = &names[file % names.len()];
            let file = disk.open(name).expect("a file");
            let bytes = file.bytes().expect("its length");
            let position = position % (bytes + 1);
            file.write_at(piece, position).expect("written over");
            file.sync().expect("synced");
            sizes.insert(name.clone(), bytes);
        }
        // Looking changes nothing and ends, whatever is there.
        let _ = examine(&disk, &mut |_, _, _| {});
        disk.kill();
        let Ok((journal, items)) = open(&disk) else {
            assert!(!damaged.pieces.is_empty(), "nothing was damaged");
            return;
        };
        let written = work.items(work.commits.len());
        assert!(
            written.starts_with(&items),
            "what was never written: {sizes:?}"
        );
        assert!(!damaged.pieces.is_empty() || items == written);
        let reader = journal.reader();
        for number in 0..3 {
            let request = LoadRequest {
                id: 1,
                partition: partition(number),
                from: LoadFrom::Index(1),
                index_end: u64::MAX,
                bytes_max: u64::MAX,
            };
            // It may be damaged behind what was looked at to open it, and says so.
            let _ = reader.load(&request);
        }
    });
}
