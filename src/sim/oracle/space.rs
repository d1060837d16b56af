//! Space comes back: once everything was given back that can be, a journal is a few times what must
//! stay, whatever else went through it, and in a few files.

use super::logs::Logs;
use super::{Verdict, broken};
use crate::sim::machine::MachineId;

const ORACLE: &str = "space comes back";

/// What an entry takes beside its data, at most: its item's head, and its share of a segment's
/// footer.
const HEAD: u64 = 128;

/// The journal of a machine takes so many bytes, in so many segments of this size.
pub(in crate::sim) fn check(
    machine: MachineId,
    (bytes, segments): (u64, u64),
    segment_bytes: u64,
    logs: &Logs,
) -> Verdict {
    let (entries, data) = logs.kept(machine);
    let kept = data + entries * HEAD;
    // Half of a segment may be of no use; so may be most of the newest, and of those that were not
    // worth writing anew beside it.
    let most = 2 * kept + 3 * segment_bytes;
    if bytes > most {
        let says = format!(
            "the journal of machine {machine} takes {bytes} bytes, of which {kept} must stay"
        );
        return broken(ORACLE, None, says);
    }
    let most = 6 + 4 * kept / segment_bytes;
    if segments > most {
        let says = format!(
            "the journal of machine {machine} has {segments} segments for the {kept} bytes that \
             must stay"
        );
        return broken(ORACLE, None, says);
    }
    Ok(())
}
