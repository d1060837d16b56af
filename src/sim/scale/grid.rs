//! Which sizes are measured: from one base, one dimension at a time.

use super::Point;

/// The fabric that every series passes through.
pub const BASE: Point = Point {
    nodes: 10,
    partitions: 30,
    clients: 100,
    readers: 100,
    listeners: 100,
};

/// A fabric that a test can afford.
const SMALL: Point = Point {
    nodes: 3,
    partitions: 6,
    clients: 2,
    readers: 2,
    listeners: 2,
};

/// What is not measured, and why.
pub const LEFT_OUT: &[&str] = &[
    "300 nodes with 3,000 partitions: every node would look through all partitions with each of \
     600 beats a second, minutes of processor time for one simulated second of the fabric",
];

/// Fabrics that differ in one dimension.
#[derive(Debug, Clone)]
pub struct Series {
    /// What grows.
    pub name: &'static str,
    /// Its sizes, rising, each with the fabric.
    pub points: Vec<(usize, Point)>,
}

/// A dimension: its name, its sizes, and how one makes a fabric of the base.
type Dimension = (&'static str, &'static [usize], fn(Point, usize) -> Point);

const DIMENSIONS: [Dimension; 6] = [
    ("nodes", &[3, 10, 30, 100, 300], |base, nodes| Point {
        nodes,
        ..base
    }),
    (
        "nodes, ten partitions each",
        &[3, 10, 30, 100],
        |base, nodes| Point {
            nodes,
            partitions: 10 * nodes,
            ..base
        },
    ),
    ("partitions", &[3, 30, 300, 3_000], |base, partitions| {
        Point { partitions, ..base }
    }),
    ("clients", &[1, 10, 100, 1_000, 10_000], |base, clients| {
        Point { clients, ..base }
    }),
    (
        "stream subscriptions",
        &[1, 10, 100, 1_000, 10_000, 100_000],
        |base, readers| Point { readers, ..base },
    ),
    (
        "signal subscriptions",
        &[1, 10, 100, 1_000, 10_000, 100_000],
        |base, listeners| Point { listeners, ..base },
    ),
];

/// Every series at full length.
pub fn series() -> Vec<Series> {
    from(BASE, usize::MAX)
}

/// The two smallest sizes of each series, around a smaller base: seconds instead of minutes.
pub fn smallest() -> Vec<Series> {
    from(SMALL, 2)
}

fn from(base: Point, count: usize) -> Vec<Series> {
    let one = |(name, sizes, make): Dimension| {
        let sizes = sizes.iter().take(count);
        let points = sizes.map(|size| (*size, make(base, *size)));
        Series {
            name,
            points: points.collect(),
        }
    };
    DIMENSIONS.map(one).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_rises_and_all_but_one_pass_through_the_base() {
        let series = series();
        for one in &series {
            assert!(one.points.is_sorted_by_key(|(size, _)| *size), "{one:?}");
        }
        let through = |one: &&Series| one.points.iter().any(|(_, point)| *point == BASE);
        assert_eq!(series.iter().filter(through).count(), series.len() - 1);
    }
}
