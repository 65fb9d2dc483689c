//! Views over images: which share what, and how unique bytes grow as they are added.

use super::figures::plain_bytes;
use super::groups::{Group, Groups};
use super::measurement::Measurement;
use super::random::Random;
use super::report::{GrowthCurve, GrowthPoint, Matrix, Ratio};

/// The image-by-image matrix of one granularity.
pub(super) fn matrix(granularity: &str, images: usize, groups: &Groups) -> Matrix {
    let mut shared = vec![vec![0_u64; images]; images];
    for group in &groups.groups {
        for (row, _) in &group.images {
            let Some(row) = shared.get_mut(*row) else { continue };
            for (column, _) in &group.images {
                if let Some(cell) = row.get_mut(*column) {
                    *cell = cell.saturating_add(group.bytes);
                }
            }
        }
    }
    let of = |row: usize, column: usize| {
        shared.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default()
    };
    let cells = |cell: &dyn Fn(usize, usize) -> Option<Ratio>| -> Vec<Vec<Option<Ratio>>> {
        (0..images).map(|row| (0..images).map(|column| cell(row, column)).collect()).collect()
    };
    let jaccard = cells(&|row, column| {
        let both = of(row, column);
        Ratio::of(both, of(row, row).saturating_add(of(column, column)).saturating_sub(both))
    });
    Matrix {
        containment: cells(&|row, column| Ratio::of(of(row, column), of(row, row))),
        granularity: granularity.to_owned(),
        order: order(images, &jaccard),
        jaccard,
        shared_bytes: shared,
    }
}

/// Begins with the first image and goes on with the one that is the most like the last, the earliest of equals.
fn order(images: usize, jaccard: &[Vec<Option<Ratio>>]) -> Vec<u64> {
    let mut left: Vec<usize> = (0..images).collect();
    let mut found: Vec<u64> = Vec::with_capacity(images);
    let mut last = 0;
    while !left.is_empty() {
        let alike = |image: usize| {
            let cell = jaccard.get(last).and_then(|row| row.get(image)).copied().flatten();
            cell.map_or(0.0, Ratio::value)
        };
        let mut best = 0;
        for (at, image) in left.iter().enumerate() {
            if left.get(best).is_some_and(|best| alike(*image) > alike(*best)) {
                best = at;
            }
        }
        last = left.remove(best);
        found.push(last as u64);
    }
    found
}

/// The growth curves of one granularity: as given, by date, and shuffled.
pub(super) fn growth(granularity: &str, measurement: &Measurement, groups: &Groups) -> Vec<GrowthCurve> {
    let images = measurement.images.len();
    let plain: Vec<u64> = measurement.images.iter().map(|image| plain_bytes(measurement, image)).collect();
    let given: Vec<usize> = (0..images).collect();
    let mut by_date = given.clone();
    by_date.sort_by_key(|at| {
        let created = measurement.images.get(*at).and_then(|image| image.created);
        (created.is_none(), created)
    });
    let curve = |order: &'static str, orders: &[Vec<usize>]| GrowthCurve {
        granularity: granularity.to_owned(),
        order,
        points: points(orders, &plain, &groups.groups),
    };
    let mut curves = vec![curve("given", std::slice::from_ref(&given)), curve("date", &[by_date])];
    let settings = &measurement.settings;
    if settings.shuffles > 0 {
        let orders: Vec<Vec<usize>> = (0..settings.shuffles)
            .map(|at| {
                let mut order = given.clone();
                Random::new(settings.seed.wrapping_add(u64::from(at))).shuffle(&mut order);
                order
            })
            .collect();
        curves.push(curve("shuffled", &orders));
    }
    curves
}

fn points(orders: &[Vec<usize>], plain: &[u64], groups: &[Group]) -> Vec<GrowthPoint> {
    struct Sums {
        logical: u128,
        unique: u128,
        least: u64,
        most: u64,
    }
    let mut sums: Vec<Sums> =
        plain.iter().map(|_| Sums { logical: 0, unique: 0, least: u64::MAX, most: 0 }).collect();
    for order in orders {
        let mut ranks = vec![0; order.len()];
        for (rank, image) in order.iter().enumerate() {
            if let Some(place) = ranks.get_mut(*image) {
                *place = rank;
            }
        }
        // What an image adds is what no image before it has.
        let mut adds = vec![0_u64; order.len()];
        for group in groups {
            let first = group.images.iter().filter_map(|(image, _)| ranks.get(*image)).min();
            if let Some(adds) = first.and_then(|first| adds.get_mut(*first)) {
                *adds = adds.saturating_add(group.bytes);
            }
        }
        let (mut logical, mut unique) = (0_u64, 0_u64);
        for ((image, adds), sums) in order.iter().zip(adds).zip(&mut sums) {
            logical = logical.saturating_add(plain.get(*image).copied().unwrap_or_default());
            unique = unique.saturating_add(adds);
            sums.logical += u128::from(logical);
            sums.unique += u128::from(unique);
            sums.least = sums.least.min(unique);
            sums.most = sums.most.max(unique);
        }
    }
    let mean = |sum: u128| u64::try_from(sum / (orders.len() as u128).max(1)).unwrap_or(u64::MAX);
    let only = if let [only] = orders { only.as_slice() } else { &[] };
    let point = |(at, sums): (usize, Sums)| {
        let (logical_bytes, unique_bytes) = (mean(sums.logical), mean(sums.unique));
        GrowthPoint {
            image: only.get(at).map(|image| *image as u64),
            images: at as u64 + 1,
            least_unique_bytes: sums.least,
            logical_bytes,
            most_unique_bytes: sums.most,
            ratio: Ratio::of(logical_bytes, unique_bytes),
            unique_bytes,
        }
    };
    sums.into_iter().enumerate().map(point).collect()
}
