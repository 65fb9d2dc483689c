//! Units that the same blobs have, equally often, taken together: every figure is a sum over these groups, which are far fewer than units.

use std::collections::HashMap;

use super::measurement::Measurement;
use super::table::{LARGE, Table, Unit};

/// Which images refer to blobs, and how often.
pub(super) struct References {
    /// By blob: images in their order, each with how often it refers to the blob.
    pub(super) images: Vec<Vec<(usize, u64)>>,
    /// By blob: how often images refer to it.
    pub(super) count: Vec<u64>,
}

impl References {
    pub(super) fn of(measurement: &Measurement) -> Self {
        let blobs = measurement.blobs.len();
        let mut found = Self { images: vec![Vec::new(); blobs], count: vec![0; blobs] };
        for (image, of) in measurement.images.iter().enumerate() {
            for blob in &of.blobs {
                if let Some(count) = found.count.get_mut(*blob) {
                    *count += 1;
                }
                if let Some(images) = found.images.get_mut(*blob) {
                    add(images, image, 1);
                }
            }
        }
        found
    }

    pub(super) fn count(&self, blob: usize) -> u64 {
        self.count.get(blob).copied().unwrap_or_default()
    }
}

/// Units with the same occurrences.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// How many, and how many bytes: of a sample, for how many those that were kept stand.
    pub(super) units: u64,
    pub(super) bytes: u64,
    /// The images that have them in their order, and how often each does.
    pub(super) images: Vec<(usize, u64)>,
}

impl Group {
    /// How often all images together have each of the units.
    pub(super) fn references(&self) -> u64 {
        self.images.iter().map(|(_, times)| times).sum()
    }
}

/// The groups of one granularity.
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    /// By unit.
    of_unit: Vec<usize>,
}

impl Groups {
    pub(super) fn of(table: &Table, references: &References) -> Self {
        let (starts, members) = members(table);
        let mut known: HashMap<&[(u32, u32)], usize> = HashMap::new();
        let mut found = Self { groups: Vec::new(), of_unit: Vec::with_capacity(table.units.len()) };
        for (at, unit) in table.units.iter().enumerate() {
            let range = starts.get(at).zip(starts.get(at + 1));
            let members = range.and_then(|(start, end)| members.get(*start..*end)).unwrap_or_default();
            let group = *known.entry(members).or_insert_with(|| {
                found.groups.push(Group { images: images(members, references), ..Group::default() });
                found.groups.len() - 1
            });
            found.of_unit.push(group);
            if let Some(group) = found.groups.get_mut(group) {
                let weight = weight(table, unit);
                group.units = group.units.saturating_add(weight);
                group.bytes = group.bytes.saturating_add(weight.saturating_mul(unit.length));
            }
        }
        found
    }

    /// Units with their groups, in the order of the table.
    pub(super) fn units<'a>(
        &'a self,
        table: &'a Table,
    ) -> impl Iterator<Item = (usize, &'a Unit, &'a Group)> {
        let group = |at: usize| self.of_unit.get(at).and_then(|group| self.groups.get(*group));
        table.units.iter().enumerate().filter_map(move |(at, unit)| Some((at, unit, group(at)?)))
    }
}

/// For how many units one that was kept stands.
pub(super) fn weight(table: &Table, unit: &Unit) -> u64 {
    if unit.length > LARGE { 1 } else { 1_u64.checked_shl(table.bits()).unwrap_or(u64::MAX) }
}

/// By unit the blobs that have it, in their order, and how often each does: where they begin in the list, and the list.
fn members(table: &Table) -> (Vec<usize>, Vec<(u32, u32)>) {
    let mut starts = vec![0; table.units.len() + 1];
    let mut sorted: Vec<u32> = Vec::new();
    let mut each = |action: &mut dyn FnMut(u32, usize, u32)| {
        for (blob, recipe) in table.recipes.iter().enumerate() {
            let Ok(blob) = u32::try_from(blob) else { continue };
            sorted.clear();
            sorted.extend(&recipe.entries);
            sorted.sort_unstable();
            for run in sorted.chunk_by(|one, other| one == other) {
                if let Some(unit) = run.first().and_then(|unit| usize::try_from(*unit).ok()) {
                    action(blob, unit, u32::try_from(run.len()).unwrap_or(u32::MAX));
                }
            }
        }
    };
    each(&mut |_, unit, _| {
        if let Some(count) = starts.get_mut(unit + 1) {
            *count += 1;
        }
    });
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut list = vec![(0, 0); sum];
    let mut next = starts.clone();
    each(&mut |blob, unit, times| {
        let Some(at) = next.get_mut(unit) else { return };
        if let Some(place) = list.get_mut(*at) {
            *place = (blob, times);
        }
        *at += 1;
    });
    (starts, list)
}

fn images(members: &[(u32, u32)], references: &References) -> Vec<(usize, u64)> {
    let mut found: Vec<(usize, u64)> = Vec::new();
    for (blob, times) in members {
        let images = usize::try_from(*blob).ok().and_then(|blob| references.images.get(blob));
        for (image, refers) in images.into_iter().flatten() {
            found.push((*image, refers.saturating_mul(u64::from(*times))));
        }
    }
    found.sort_unstable();
    let mut summed: Vec<(usize, u64)> = Vec::with_capacity(found.len());
    for (image, times) in found {
        add(&mut summed, image, times);
    }
    summed
}

/// Adds to the last of a list that is in order.
fn add(list: &mut Vec<(usize, u64)>, image: usize, times: u64) {
    match list.last_mut() {
        Some((last, count)) if *last == image => *count = count.saturating_add(times),
        _ => list.push((image, times)),
    }
}
