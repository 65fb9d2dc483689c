//! Usage: how much each repository and the whole store hold, as counters that change in the batch that changes it.
//!
//! Nobody counts by hand. [`Rows`] notes what becomes of contents, memberships and the journal, and only counted rows can be
//! written: [`Rows::count`] looks at who else holds what changes and adds what comes of it. Whoever changes who holds a
//! content has its stripe for himself from there to the end of the write, or two changes could overlook each other.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rocksdb::MergeOperands;

use super::super::batch::{Rows, Written};
use super::super::key::{self, Kind, RepositoryId, tag_byte};
use super::super::record::{Input, VERSION, put_number};
use super::super::schema::Family;
use super::super::view::{View, Visit, id_in};
use crate::digest::Digest;
use crate::error::Result;

/// The name of the merge operator, which the engine keeps in its tables.
pub(in super::super) const OPERATOR: &str = "orlop.add";

/// Operands of one key that memory holds in a row before they become one value: reading a counter adds so many at most, and
/// each write walks over them.
pub(in super::super) const SUCCESSIVE: usize = 8;

/// Numbers in the row of a counter.
const FIELDS: usize = 8;

/// Contents and their bytes, or a change of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    pub(crate) objects: i64,
    pub(crate) bytes: i64,
}

impl Count {
    fn of(objects: i64, size: u64) -> Self {
        Self { objects, bytes: objects.wrapping_mul(i64::try_from(size).unwrap_or(i64::MAX)) }
    }

    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        // The only addition that is associative whatever the numbers are.
        self.objects = self.objects.wrapping_add(other.objects);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// What one repository holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct HeldUsage {
    /// Every content once, however it is held.
    pub(crate) all: Count,
    /// Of those, what no other repository holds.
    pub(crate) unique: Count,
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct TotalUsage {
    /// The sum over all repositories.
    pub(crate) held: Count,
    /// Every content once.
    pub(crate) stored: Count,
    /// Of those, what no repository holds.
    pub(crate) unheld: Count,
    /// Of those stored, what the journal has.
    pub(crate) journalled: Count,
}

/// All counters, or changes of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Usages {
    pub(crate) total: TotalUsage,
    pub(crate) repositories: BTreeMap<RepositoryId, HeldUsage>,
}

impl Usages {
    /// Adds a content with its holders, or takes it away.
    fn add(&mut self, sign: i64, size: Option<u64>, holders: &Holders) {
        let Some(size) = size else { return };
        let one = Count::of(sign, size);
        self.total.stored += one;
        let mut last = None;
        let mut distinct = 0_usize;
        for (id, _) in &holders.inside {
            if last != Some(*id) {
                self.repositories.entry(*id).or_default().all += one;
                self.total.held += one;
                distinct += 1;
            }
            last = Some(*id);
        }
        match (distinct, holders.outside) {
            (0, Outside::None) => self.total.unheld += one,
            (1, Outside::None) => {
                if let Some(id) = last {
                    self.repositories.entry(id).or_default().unique += one;
                }
            }
            (0, Outside::One(id)) => self.repositories.entry(id).or_default().unique += one,
            _ => {}
        }
    }

    /// How many counters change.
    pub(crate) fn rows(&self) -> usize {
        self.fields().count()
    }

    fn fields(&self) -> impl Iterator<Item = (Option<RepositoryId>, Fields)> {
        let total = (None, Fields::from(self.total));
        let rows = self.repositories.iter().map(|(id, held)| (Some(*id), Fields::from(*held)));
        rows.chain([total]).filter(|(_, fields)| *fields != Fields::default())
    }
}

/// The value of a counter's row: signed numbers, of which those at the end may be left out if they are zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in super::super) struct Fields([i64; FIELDS]);

impl Fields {
    fn less(mut self, other: &Self) -> Self {
        for (field, less) in self.0.iter_mut().zip(other.0) {
            *field = field.wrapping_sub(less);
        }
        self
    }

    pub(in super::super) fn encode(&self) -> Vec<u8> {
        let used = self.0.iter().rposition(|number| *number != 0).map_or(0, |last| last + 1);
        let mut out = Vec::with_capacity(24);
        out.push(VERSION);
        for number in self.0.iter().take(used) {
            // Small numbers of either sign are short.
            put_number(&mut out, ((number << 1) ^ (number >> 63)).cast_unsigned());
        }
        out
    }

    pub(in super::super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "usage")?;
        let mut fields = Self::default();
        for field in &mut fields.0 {
            if input.is_empty() {
                break;
            }
            let number = input.number()?;
            *field = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
        }
        input.close()?;
        Ok(fields)
    }
}

impl From<HeldUsage> for Fields {
    fn from(HeldUsage { all, unique }: HeldUsage) -> Self {
        Self([all.objects, all.bytes, unique.objects, unique.bytes, 0, 0, 0, 0])
    }
}

impl From<Fields> for HeldUsage {
    fn from(Fields([objects, bytes, unique_objects, unique_bytes, ..]): Fields) -> Self {
        let unique = Count { objects: unique_objects, bytes: unique_bytes };
        Self { all: Count { objects, bytes }, unique }
    }
}

impl From<TotalUsage> for Fields {
    fn from(TotalUsage { held, stored, unheld, journalled }: TotalUsage) -> Self {
        let [a, b, c, d] = [held, stored, unheld, journalled];
        Self([a.objects, a.bytes, b.objects, b.bytes, c.objects, c.bytes, d.objects, d.bytes])
    }
}

impl From<Fields> for TotalUsage {
    fn from(Fields([a, b, c, d, e, f, g, h]): Fields) -> Self {
        let count = |objects, bytes| Count { objects, bytes };
        Self { held: count(a, b), stored: count(c, d), unheld: count(e, f), journalled: count(g, h) }
    }
}

/// Adds the operands of a key to its value. It never fails: the engine would refuse every write from then on. A value that
/// cannot be read stays as it is, so whoever reads the counter is told.
pub(in super::super) fn merge(_: &[u8], value: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    sum(value.into_iter().chain(operands))
}

pub(in super::super) fn sum<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut total = Fields::default();
    for value in values {
        let Ok(fields) = Fields::decode(value) else { return Some(value.to_vec()) };
        for (to, from) in total.0.iter_mut().zip(fields.0) {
            *to = to.wrapping_add(from);
        }
    }
    Some(total.encode())
}

/// What a batch does to what is counted, as it was done.
#[derive(Debug, Default)]
pub(in super::super) struct Changes(Vec<(Digest, Change)>);

/// What becomes of a content.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Change {
    /// Its row is put, and there was none, so nobody held it.
    New { size: u64 },
    /// Its row is put.
    Put { size: u64 },
    /// Its row goes, and with it, in the same batch, the last of those who hold it.
    Condemned { size: u64 },
    /// A repository comes to hold it.
    Joined(RepositoryId, Kind),
    /// A repository no longer holds it.
    Left(RepositoryId, Kind),
    /// The journal takes it.
    Journalled { size: u64 },
    /// Its row in the journal goes.
    Filed { size: u64 },
}

impl Changes {
    pub(in super::super) fn note(&mut self, digest: &Digest, change: Change) {
        self.0.push((*digest, change));
    }

    /// What the counters change by. Looks at nothing for content that is new.
    fn counted(&mut self, view: &View<'_>) -> Result<Usages> {
        let mut usages = Usages::default();
        // What happens to one content stays in its order.
        self.0.sort_by_key(|(digest, _)| *digest);
        for changes in self.0.chunk_by(|(one, _), (other, _)| one == other) {
            if let Some((digest, _)) = changes.first() {
                count_one(view, digest, changes, &mut usages)?;
            }
        }
        Ok(usages)
    }
}

/// What a visitor answers: stop, or go on.
fn until(done: bool) -> ControlFlow<()> {
    if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn count_one(view: &View<'_>, digest: &Digest, changes: &[(Digest, Change)], to: &mut Usages) -> Result<()> {
    let is_new = changes.iter().any(|(_, change)| matches!(change, Change::New { .. }));
    let mut involved: Vec<RepositoryId> = Vec::new();
    let mut condemned = None;
    for (_, change) in changes {
        match change {
            Change::Joined(id, _) | Change::Left(id, _) => involved.push(*id),
            Change::Journalled { size } => {
                to.total.journalled += Count::of(1, *size);
                // Content that is damaged comes again while the journal has it still.
                if !is_new && let Some(replaced) = view.journalled(digest)? {
                    to.total.journalled += Count::of(-1, replaced);
                }
            }
            Change::Filed { size } => to.total.journalled += Count::of(-1, *size),
            Change::Condemned { size } => condemned = Some(*size),
            Change::New { .. } | Change::Put { .. } => {}
        }
    }
    if let Some(size) = condemned {
        // There was nobody else, so nothing has to be looked at.
        let mut inside: Vec<_> = changes.iter().filter_map(|(_, change)| change.left()).collect();
        inside.sort_unstable();
        to.add(-1, Some(size), &Holders { inside, outside: Outside::None });
        return Ok(());
    }
    let before = if is_new || !changes.iter().any(|(_, change)| change.is_counted()) {
        None
    } else {
        view.content(digest)?.map(|record| record.size)
    };
    let after = changes.iter().fold(before, |size, (_, change)| match change {
        Change::New { size } | Change::Put { size } => Some(*size),
        _ => size,
    });
    if involved.is_empty() && before == after {
        return Ok(());
    }
    let mut holders = if is_new {
        Holders::default()
    } else if before == after {
        Holders::beside(view, digest, &involved)?
    } else {
        Holders::all(view, digest)?
    };
    to.add(-1, before, &holders);
    for (_, change) in changes {
        match change {
            Change::Joined(id, kind) => holders.inside.push((*id, *kind)),
            Change::Left(id, kind) => holders.inside.retain(|held| held != &(*id, *kind)),
            _ => {}
        }
    }
    holders.inside.sort_unstable();
    to.add(1, after, &holders);
    Ok(())
}

impl Change {
    fn left(self) -> Option<(RepositoryId, Kind)> {
        if let Self::Left(id, kind) = self { Some((id, kind)) } else { None }
    }

    /// Whether it is about more than the journal.
    fn is_counted(self) -> bool {
        !matches!(self, Self::Journalled { .. } | Self::Filed { .. })
    }
}

/// Who holds a content, as far as a change of it has to know.
#[derive(Debug, Default)]
struct Holders {
    /// Those that the change is about, in order.
    inside: Vec<(RepositoryId, Kind)>,
    outside: Outside,
}

/// The others.
#[derive(Clone, Copy, Debug, Default)]
enum Outside {
    #[default]
    None,
    One(RepositoryId),
    Many,
}

impl Holders {
    fn all(view: &View<'_>, digest: &Digest) -> Result<Self> {
        let mut found = Self::default();
        view.holders(digest, |id, kind| {
            found.inside.push((id, kind));
            Ok(until(false))
        })?;
        Ok(found)
    }

    /// Looks for two others at most: thousands of repositories may hold one base layer.
    fn beside(view: &View<'_>, digest: &Digest, involved: &[RepositoryId]) -> Result<Self> {
        let mut found = Self::default();
        view.holders(digest, |id, kind| {
            if involved.contains(&id) {
                found.inside.push((id, kind));
            } else {
                found.outside = match found.outside {
                    Outside::None => Outside::One(id),
                    Outside::One(other) if other == id => Outside::One(id),
                    _ => Outside::Many,
                };
            }
            Ok(until(matches!(found.outside, Outside::Many)))
        })?;
        if matches!(found.outside, Outside::Many) {
            found.inside.clear();
            for id in involved {
                for kind in [Kind::Manifest, Kind::Blob] {
                    if !found.inside.contains(&(*id, kind)) && view.is_member(*id, kind, digest)? {
                        found.inside.push((*id, kind));
                    }
                }
            }
        }
        found.inside.sort_unstable();
        Ok(found)
    }
}

/// Rows with what they change of the counters; only these can be written.
pub(crate) struct CountedRows<'a> {
    rows: Rows<'a>,
    changes: Usages,
}

impl<'a> Rows<'a> {
    /// Adds what the rows change of the counters. From here to the end of the write nobody else may change who holds the
    /// contents that the rows are about.
    pub(crate) fn count(mut self) -> Result<CountedRows<'a>> {
        let changes = self.changes()?;
        Ok(self.count_as(changes))
    }

    /// What the rows change of the counters, as long as nobody else changes who holds the contents that they are about. Where
    /// somebody does, a repository still comes to hold as much as this says, or less if another commit brought it the same.
    pub(crate) fn changes(&mut self) -> Result<Usages> {
        self.changes.counted(&self.metadata.view())
    }

    /// The same with changes that were just counted.
    pub(crate) fn count_as(mut self, changes: Usages) -> CountedRows<'a> {
        for (id, fields) in changes.fields() {
            self.merge(&key::usage(id), &fields.encode());
        }
        CountedRows { rows: self, changes }
    }

    /// Counts and writes.
    #[cfg(test)]
    pub(crate) fn commit(self, sync: bool) -> Result<()> {
        self.count()?.commit(sync)
    }

    /// Sets all counters to what was counted, whatever they were.
    pub(crate) fn put_usage(&mut self, view: &View<'_>, counted: &Usages) -> Result<()> {
        view.usages(|id, _| {
            self.delete_usage(id);
            Ok(until(false))
        })?;
        self.put(Family::Default, &key::usage(None), &Fields::from(counted.total).encode());
        for (id, held) in &counted.repositories {
            self.put(Family::Default, &key::usage(Some(*id)), &Fields::from(*held).encode());
        }
        self.put_flag(super::super::fact::COUNTED);
        Ok(())
    }

    /// Adds to the counters what they differ from counting at the moment of a view, whatever is added to them meanwhile; answers
    /// how many do.
    pub(crate) fn correct_usage(&mut self, view: &View<'_>) -> Result<u64> {
        let counted = view.recount()?;
        let mut wanted = BTreeMap::from([(None, Fields::from(counted.total))]);
        wanted.extend(counted.repositories.iter().map(|(id, held)| (Some(*id), Fields::from(*held))));
        let mut kept = BTreeMap::from([(None, Fields::from(view.usage()?))]);
        view.usages(|id, held| {
            kept.insert(Some(id), Fields::from(held));
            Ok(until(false))
        })?;
        let mut corrected = 0;
        let ids: std::collections::BTreeSet<_> = wanted.keys().chain(kept.keys()).copied().collect();
        for id in ids {
            let of = |fields: &BTreeMap<_, Fields>| fields.get(&id).copied().unwrap_or_default();
            let difference = of(&wanted).less(&of(&kept));
            if difference != Fields::default() {
                self.merge(&key::usage(id), &difference.encode());
                corrected += 1;
            }
        }
        Ok(corrected)
    }

    /// Removes the counters of a repository that is gone.
    pub(crate) fn delete_usage(&mut self, id: RepositoryId) {
        self.delete(Family::Default, &key::usage(Some(id)));
    }

    /// Changes a counter by hand, for tests of what notices.
    #[cfg(test)]
    pub(crate) fn add_usage(&mut self, id: Option<RepositoryId>, objects: i64) {
        let all = Count { objects, bytes: 0 };
        let fields = Fields::from(HeldUsage { all, unique: Count::default() });
        self.merge(&key::usage(id), &fields.encode());
    }
}

impl<'a> CountedRows<'a> {
    /// What the rows change of the counters.
    pub(crate) fn changes(&self) -> &Usages {
        &self.changes
    }

    /// For rows that change nothing that is counted.
    pub(super) fn uncounted(&mut self) -> &mut Rows<'a> {
        &mut self.rows
    }

    /// Bytes that they take in the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.bytes()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes rows whose loss in a crash does no harm.
    pub(crate) fn write(self) -> Result<()> {
        self.rows.write()
    }

    /// Writes rows that their writer answers for once they are synced.
    pub(crate) fn write_to_sync(self) -> Result<Written<'a>> {
        self.rows.write_to_sync()
    }

    /// Writes the rows; with `sync` the log is on the disk before this returns.
    #[cfg(test)]
    pub(crate) fn commit(self, sync: bool) -> Result<()> {
        if sync { self.write_to_sync()?.sync() } else { self.write() }
    }
}

impl View<'_> {
    /// What a repository holds, by its counters.
    pub(crate) fn usage_of(&self, id: RepositoryId) -> Result<HeldUsage> {
        Ok(self.usage_fields(Some(id))?.into())
    }

    /// What the store holds, by its counters.
    pub(crate) fn usage(&self) -> Result<TotalUsage> {
        Ok(self.usage_fields(None)?.into())
    }

    fn usage_fields(&self, id: Option<RepositoryId>) -> Result<Fields> {
        self.get(Family::Default, &key::usage(id))?.map_or(Ok(Fields::default()), |row| Fields::decode(&row))
    }

    /// The counters of repositories, in order of their ids.
    pub(crate) fn usages(&self, mut visit: impl FnMut(RepositoryId, HeldUsage) -> Visit) -> Result<()> {
        self.scan(Family::Default, &[tag_byte::USAGE], Some(&key::usage(None)), |key, value| {
            visit(id_in(key, 1)?, Fields::decode(value)?.into())
        })
    }

    /// What the counters would be if they were made anew. Costs all that the store holds.
    pub(crate) fn recount(&self) -> Result<Usages> {
        let mut counted = Usages::default();
        let mut group: Option<(Digest, Holders)> = None;
        self.all_holders(|digest, id, kind| {
            match &mut group {
                Some((of, holders)) if *of == digest => holders.inside.push((id, kind)),
                _ => {
                    let holders = Holders { inside: vec![(id, kind)], ..Holders::default() };
                    self.recount_held(group.replace((digest, holders)), &mut counted)?;
                }
            }
            Ok(until(false))
        })?;
        self.recount_held(group, &mut counted)?;
        let held = counted.total.stored;
        let mut all = Count::default();
        self.contents(|_, record| {
            all += Count::of(1, record.size);
            Ok(until(false))
        })?;
        counted.total.stored = all;
        counted.total.unheld = Count { objects: all.objects - held.objects, bytes: all.bytes - held.bytes };
        self.journal_rows(|_, _, content| {
            counted.total.journalled += Count::of(1, content.len() as u64);
            Ok(until(false))
        })?;
        Ok(counted)
    }

    fn recount_held(&self, group: Option<(Digest, Holders)>, counted: &mut Usages) -> Result<()> {
        let Some((digest, holders)) = group else { return Ok(()) };
        let size = self.content(&digest)?.map(|record| record.size);
        counted.add(1, size, &holders);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_that_cannot_be_read_stays_and_is_told() {
        let good = Fields([1, 2, 0, 0, 0, 0, 0, 0]).encode();
        let newer: &[u8] = &[VERSION + 1, 7];
        let kept = sum([newer, &good].into_iter()).unwrap();
        assert_eq!(kept, newer);
        assert!(Fields::decode(&kept).is_err());
        assert!(
            Fields::decode(&[VERSION, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(),
            "more numbers than there are"
        );
    }

    proptest! {
        #[test]
        fn counters_round_trip_and_add_in_any_grouping(a: [i64; FIELDS], b: [i64; FIELDS], c: [i64; FIELDS]) {
            let [a, b, c] = [a, b, c].map(|fields| Fields(fields).encode());
            let sum = |values: &[&Vec<u8>]| sum(values.iter().map(|value| value.as_slice())).unwrap();
            prop_assert_eq!(sum(&[&a]), a.clone());
            prop_assert_eq!(sum(&[&sum(&[&a, &b]), &c]), sum(&[&a, &sum(&[&b, &c])]));
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Fields::decode(&bytes);
        }
    }
}
