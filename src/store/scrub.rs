//! Reads what is synced once more, from its first byte to its last, beside the writer: so damage is
//! found while other replicas still hold what it took, and not when somebody needs it.

use super::base::{BASE, Base};
use super::index::{Follows, Index, Sealed};
use super::journal::locked;
use super::layout::{BlockKind, HEADER, PAGE, SegmentHeader, life};
use super::segment::{Window, segment_name};
use super::{Disk, Reader, StoreError};
use crate::types::Sabotage;

/// How far a scrub has come. It goes on from one call to the next, and after the last segment it
/// begins anew.
#[derive(Debug, Default)]
pub struct Scrub {
    /// The first segment that is not done with; 0 before the base was looked at.
    segment: u64,
    /// How far that segment is done with.
    place: Option<Place>,
}

/// What a scrub came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// The end of what it may read at a time.
    Part,
    /// Something that does not read as it was written. It is remembered, see [`Reader::damage`].
    Damage(StoreError),
    /// The end of the journal.
    All,
}

/// A place between two blocks.
#[derive(Debug)]
struct Place {
    /// That of the file.
    version: u64,
    position: u64,
    /// Which block comes.
    follows: Follows,
}

impl<D: Disk> Reader<D> {
    /// Verifies about `bytes_max` bytes more of what is synced (at least one block), where `scrub`
    /// left off. The newest segment is verified as far as it is synced. The disk is read, and not
    /// what the system has in its cache of it.
    ///
    /// # Errors
    /// `Disk`, if a file cannot be opened. Damage is no error, and neither is a disk that cannot
    /// read a part of a file: that part is damaged.
    pub fn scrub(&self, scrub: &mut Scrub, bytes_max: u64) -> Result<Scrubbed, StoreError> {
        let shared = self.shared();
        if scrub.segment == 0 {
            self.scrub_base()?;
            scrub.segment = 1;
        }
        let next = locked(&shared.index).to_scrub(scrub.segment);
        let Some((number, sealed)) = next else {
            *scrub = Scrub::default();
            return Ok(Scrubbed::All);
        };
        let begun = scrub.place.take().filter(|place| {
            (number, sealed.version) == (scrub.segment, place.version) && place.position > 0
        });
        scrub.segment = number;
        let path = shared.disk.path(&segment_name(number));
        let file = match shared.disk.open(&segment_name(number)) {
            Ok(file) => file,
            Err(error) => {
                return match self.is_still(number, &sealed) {
                    true => Err(StoreError::disk("cannot open", path, &error)),
                    false => Ok(Scrubbed::Part),
                };
            }
        };
        let mut window = Window::fresh(&file, &path);
        let verified = match begun {
            Some(place) => Ok(place),
            None => self.verify_header(&mut window, number, &sealed),
        }
        .and_then(|place| verify_blocks(&mut window, self.life(number), &sealed, place, bytes_max));
        match verified {
            Ok(Some(place)) => {
                scrub.place = Some(place);
                Ok(Scrubbed::Part)
            }
            Ok(None) => {
                scrub.segment += 1;
                Ok(Scrubbed::Part)
            }
            // Another file has its name now.
            Err(_) if !self.is_still(number, &sealed) => Ok(Scrubbed::Part),
            Err(error) => {
                locked(&shared.index).unreadable.insert(number);
                scrub.segment += 1;
                Ok(Scrubbed::Damage(error))
            }
        }
    }

    /// The base is verified; if it is damaged it is written anew, since memory holds all of it.
    fn scrub_base(&self) -> Result<(), StoreError> {
        let shared = self.shared();
        let _alone = locked(&shared.recycling);
        let names = shared.disk.list();
        let names =
            names.map_err(|error| StoreError::disk("cannot list", shared.disk.path(""), &error))?;
        if !names.iter().any(|name| name == BASE) {
            return Ok(());
        }
        match Base::read(&shared.disk, shared.incarnation) {
            Ok(_) => Ok(()),
            Err(error) if error.is_damage() => {
                let base = {
                    let index = locked(&shared.index);
                    index.base(index.first_segment())
                };
                base.write(&shared.disk, shared.incarnation)
            }
            Err(error) => Err(error),
        }
    }

    fn is_still(&self, number: u64, sealed: &Sealed) -> bool {
        let now = locked(&self.shared().index).to_scrub(number);
        now.is_some_and(|(now, file)| (now, file.version) == (number, sealed.version))
    }

    fn life(&self, number: u64) -> u64 {
        life(self.shared().incarnation, number)
    }

    fn verify_header(
        &self,
        window: &mut Window<'_, D::File>,
        number: u64,
        sealed: &Sealed,
    ) -> Result<Place, StoreError> {
        let damaged = |reason| StoreError::damaged(window.path.to_owned(), 0, reason);
        let path = window.path;
        let header = SegmentHeader::decode(window.read(0, HEADER)?)
            .map_err(|reason| StoreError::damaged(path.to_owned(), 0, reason))?;
        let told = (header.identity, header.number, header.life, header.kind());
        let known = (
            self.shared().identity,
            number,
            self.life(number),
            sealed.kind,
        );
        if told != known || Follows::of(&header) != sealed.follows {
            return Err(damaged("its header is that of another segment"));
        }
        let first = Follows {
            sequence: 1,
            previous_crc: 0,
        };
        Ok(Place {
            version: sealed.version,
            position: PAGE,
            follows: match sealed.kind {
                BlockKind::Kept => first,
                _ => sealed.follows,
            },
        })
    }
}

impl Index {
    /// The first segment from this one on that is not known to be damaged. The newest one is taken
    /// as far as it is synced.
    fn to_scrub(&self, from: u64) -> Option<(u64, Sealed)> {
        let newest = Sealed {
            end: self.tail_end,
            follows: self.tail_follows,
            kind: BlockKind::Commit,
            version: 0,
        };
        let sealed = self.sealed.range(from..);
        let all = sealed.map(|(number, sealed)| (*number, *sealed));
        let newest = (self.tail_number >= from).then_some((self.tail_number, newest));
        let mut all = all.chain(newest);
        all.find(|(number, _)| !self.unreadable.contains(number))
    }
}

/// Verifies blocks from `place` on, until `bytes_max` are passed; where to go on, if not done.
fn verify_blocks<F: super::DiskFile>(
    window: &mut Window<'_, F>,
    life: u64,
    sealed: &Sealed,
    mut place: Place,
    bytes_max: u64,
) -> Result<Option<Place>, StoreError> {
    if Sabotage::BlindScrub.is_on() {
        return Ok(None);
    }
    let path = window.path;
    let until = place.position.saturating_add(bytes_max);
    while place.position < sealed.end {
        if place.position >= until {
            return Ok(Some(place));
        }
        let position = place.position;
        let damaged = |reason: &str| StoreError::damaged(path.to_owned(), position, reason);
        let (block, _) = window
            .block(position, sealed.kind, life, sealed.end)?
            .map_err(damaged)?;
        let told = (block.sequence, block.previous_crc);
        if told != (place.follows.sequence, place.follows.previous_crc) {
            return Err(damaged("a block that does not follow the one before it"));
        }
        place.position += block.block_bytes();
        place.follows = Follows {
            sequence: block.sequence + 1,
            previous_crc: block.crc,
        };
    }
    // That of a segment that was written anew was synced with it.
    if sealed.kind == BlockKind::Kept {
        let file_bytes = window.file_bytes()?;
        window
            .block(sealed.end, BlockKind::Footer, life, file_bytes)?
            .map_err(|reason| StoreError::damaged(path.to_owned(), sealed.end, reason))?;
    }
    Ok(None)
}
