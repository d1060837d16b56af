//! A cursor by itself, in a partition of ten records where nothing else is said.

use super::*;

const TEN: (Offset, Offset) = (0, 10);

fn change(name: &str, does: CursorDoes) -> CursorChange {
    CursorChange {
        name: name.to_owned(),
        does,
    }
}

fn open(cursors: &mut Cursors, holder: u64) -> CursorPosition {
    let from = CursorStart::Start;
    let open = change("billing", CursorDoes::Open { from, holder });
    cursors.change(&open, TEN).expect("opens")
}

fn ack(
    cursors: &mut Cursors,
    token: u64,
    ranges: &[(Offset, Offset)],
) -> Result<Offset, CursorError> {
    let ranges = ranges.to_vec();
    let ack = change("billing", CursorDoes::Ack { token, ranges });
    Ok(cursors.change(&ack, TEN)?.floor)
}

fn account(cursors: &Cursors, end: Offset) -> CursorAccount {
    let (_, account) = cursors.accounts(end).next().expect("a cursor");
    let sum = account.acked + account.waiting + account.missed;
    assert_eq!(account.offered, sum, "{account:?}");
    account
}

#[test]
fn the_floor_moves_when_what_lies_before_it_is_acked() {
    let mut cursors = Cursors::default();
    let token = open(&mut cursors, 1).token;
    assert_eq!(ack(&mut cursors, token, &[(2, 4)]), Ok(0));
    assert_eq!(ack(&mut cursors, token, &[(5, 6)]), Ok(0));
    assert_eq!(ack(&mut cursors, token, &[(0, 2)]), Ok(4));
    // Once more, and something that was never acked in between.
    assert_eq!(ack(&mut cursors, token, &[(0, 2), (4, 5)]), Ok(6));
    let account = account(&cursors, 10);
    assert_eq!((account.acked, account.waiting), (6, 4));
}

#[test]
fn one_holder_moves_it_and_a_later_one_has_a_higher_token() {
    let mut cursors = Cursors::default();
    let first = open(&mut cursors, 1).token;
    assert_eq!(open(&mut cursors, 1).token, first, "asked again");
    let second = open(&mut cursors, 2).token;
    assert!(second > first);
    let taken_over = Err(CursorError::TakenOver("billing".to_owned()));
    assert_eq!(ack(&mut cursors, first, &[(0, 1)]), taken_over);
    assert_eq!(ack(&mut cursors, second, &[(0, 1)]), Ok(1));
    assert_eq!(ack(&mut cursors, 9, &[(0, 1)]), Err(CursorError::NotYet(9)));
    let seek = CursorDoes::Seek {
        to: CursorStart::Offset(7),
    };
    let seek = change("billing", seek);
    assert_eq!(cursors.change(&seek, TEN).map(|p| p.floor), Ok(7));
    let moved = Err(CursorError::Moved("billing".to_owned()));
    assert_eq!(ack(&mut cursors, second, &[(7, 8)]), moved);
    assert_eq!(account(&cursors, 10).offered, 3, "a new account");
    let delete = change("billing", CursorDoes::Delete);
    assert!(cursors.change(&delete, TEN).is_ok());
    let absent = Err(CursorError::Absent("billing".to_owned()));
    assert_eq!(ack(&mut cursors, second, &[(7, 8)]), absent);
    // A name that comes back never has a token that was given before.
    assert!(open(&mut cursors, 1).token > second + 1);
}

#[test]
fn it_starts_where_it_is_told_the_first_time_and_later_where_it_stood() {
    let starts = [
        (CursorStart::Start, Ok(3)),
        (CursorStart::End, Ok(10)),
        (CursorStart::Offset(5), Ok(5)),
        (
            CursorStart::Offset(11),
            Err(CursorError::Beyond {
                offset: 11,
                end: 10,
            }),
        ),
    ];
    for (from, floor) in starts {
        let mut cursors = Cursors::default();
        let open = change("billing", CursorDoes::Open { from, holder: 1 });
        let opened = cursors.change(&open, (3, 10));
        assert_eq!(opened.map(|position| position.floor), floor);
        let again = CursorDoes::Open {
            from: CursorStart::End,
            holder: 2,
        };
        if let Ok(floor) = floor {
            let again = cursors.change(&change("billing", again), (3, 20));
            assert_eq!(again.map(|position| position.floor), Ok(floor));
        }
    }
}

#[test]
fn promise_1_what_is_let_go_of_unread_is_missed() {
    let mut cursors = Cursors::default();
    let token = open(&mut cursors, 1).token;
    ack(&mut cursors, token, &[(0, 1), (3, 5), (8, 9)]).expect("its token");
    cursors.trim(4);
    let now = account(&cursors, 10);
    assert_eq!((now.floor, now.acked, now.missed), (5, 4, 2));
    assert_eq!(open(&mut cursors, 2).missed, 2);
    assert_eq!(open(&mut cursors, 3).missed, 0, "told before");
    // What is acked too late counts as missed.
    cursors.trim(7);
    assert_eq!(ack(&mut cursors, 3, &[(5, 8)]), Ok(9));
    let now = account(&cursors, 12);
    assert_eq!((now.acked, now.missed, now.waiting), (5, 4, 3));
    // One that begins where nothing is retained has missed that.
    let late = CursorDoes::Open {
        from: CursorStart::Offset(1),
        holder: 1,
    };
    let opened = cursors.change(&change("late", late), (7, 12));
    assert_eq!(opened.map(|position| position.missed), Ok(6));
}

#[test]
fn promise_5_cursors_and_their_ranges_are_bounded() {
    let mut cursors = Cursors::default();
    let token = open(&mut cursors, 1).token;
    let most = CURSOR_RANGES_MAX as u64;
    let retained = (0, 4 * most);
    let mut ack = |ranges: Vec<(Offset, Offset)>| {
        let ack = CursorDoes::Ack { token, ranges };
        cursors.change(&change("billing", ack), retained)?;
        let (_, account) = cursors.accounts(retained.1).next().expect("a cursor");
        Ok((account.floor, account.ranges))
    };
    let every_other = (0..most).map(|n| (2 * n + 1, 2 * n + 2)).collect();
    assert_eq!(ack(every_other), Ok((0, most)));
    let one_more = 2 * most + 1;
    let full = Err(CursorError::Full(0));
    assert_eq!(ack(vec![(one_more, one_more + 1)]), full);
    // The oldest one makes room.
    assert_eq!(ack(vec![(0, 1), (one_more, one_more + 1)]), Ok((2, most)));
    for number in 1..CURSORS_MAX as u64 {
        let from = CursorStart::End;
        let open = CursorDoes::Open { from, holder: 1 };
        let opened = cursors.change(&change(&number.to_string(), open), TEN);
        assert!(opened.is_ok());
    }
    let from = CursorStart::End;
    let open = CursorDoes::Open { from, holder: 1 };
    let opened = cursors.change(&change("one too many", open), TEN);
    assert_eq!(opened, Err(CursorError::TooMany));
}

#[test]
fn what_lies_beyond_the_end_is_not_acked() {
    let mut cursors = Cursors::default();
    let token = open(&mut cursors, 1).token;
    let beyond = Err(CursorError::Beyond {
        offset: 10,
        end: 10,
    });
    assert_eq!(ack(&mut cursors, token, &[(0, 1), (9, 11)]), beyond);
    assert_eq!(account(&cursors, 10).acked, 0, "all of it or nothing");
}
