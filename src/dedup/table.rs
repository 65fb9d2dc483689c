//! The distinct units of one granularity and which blobs have them: exact as long as they fit, then a sample by hash.
//!
//! A sample keeps all occurrences of the units that it keeps, so that every figure can be estimated from it. How small it gets is
//! decided by what is in it alone, by the same rule whenever it is asked, so that neither the order of blobs nor the number of threads matters.

use super::class::Class;
use super::unit::{Found, Key, Packing};

/// Units above it are always kept: few are so large, and they hold most of the bytes.
pub(super) const LARGE: u64 = 1 << 20;

/// Not packed.
const UNPACKED: u64 = u64::MAX;
const EMPTY: u32 = u32::MAX;
/// Paths that are kept of one unit.
const PATHS: usize = 3;

/// What a unit, an occurrence, and the paths of a unit are taken to cost, in bytes: with room for the growth of tables.
const UNIT_COST: u64 = 64;
const PATHS_COST: u64 = 128;
const ENTRY_COST: u64 = 8;

/// A distinct unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Unit {
    pub(super) key: Key,
    pub(super) length: u64,
    packed: u64,
    pub(super) class: Class,
}

impl Unit {
    pub(super) fn packed(&self) -> Option<u64> {
        (self.packed != UNPACKED).then_some(self.packed)
    }
}

/// What a blob consists of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Recipe {
    /// Indices of units, in the order in which they come; of a sample only those that are kept.
    pub(super) entries: Vec<u32>,
    /// All units, whether kept or not.
    pub(super) units: u64,
    pub(super) bytes: u64,
    pub(super) zero_bytes: u64,
}

/// The table of one granularity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Table {
    pub(super) units: Vec<Unit>,
    /// The first paths of each unit, where paths are kept.
    paths: Option<Vec<Vec<Box<str>>>>,
    /// By blob.
    pub(super) recipes: Vec<Recipe>,
    /// Positions in `units`, by key.
    slots: Vec<u32>,
    entries: u64,
    limit: u64,
    /// Units are kept whose key begins with so many zero bits.
    bits: u32,
}

impl Table {
    pub(super) fn new(limit: u64, with_paths: bool) -> Self {
        Self {
            units: Vec::new(),
            paths: with_paths.then(Vec::new),
            recipes: Vec::new(),
            slots: Vec::new(),
            entries: 0,
            limit,
            bits: 0,
        }
    }

    /// How many zero bits the keys of units begin with that are kept.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// The paths that are kept of a unit.
    pub(super) fn paths(&self, unit: usize) -> &[Box<str>] {
        self.paths.as_ref().and_then(|paths| paths.get(unit)).map_or(&[], Vec::as_slice)
    }

    /// Adds units of a blob in their order. Answers for each whether it is to be packed, which is so once for each unit.
    pub(super) fn add(&mut self, blob: usize, found: &mut [Found], pack_one_in: u32) -> Vec<bool> {
        let mut wanted = Vec::with_capacity(found.len());
        if self.recipes.len() <= blob {
            self.recipes.resize_with(blob + 1, Recipe::default);
        }
        for one in found {
            let key = one.key();
            let packed = match one.packing {
                Packing::Done(size) => size,
                Packing::Window(_) | Packing::None => UNPACKED,
            };
            let unit = Unit { key, length: one.length, packed, class: one.class };
            if let Some(recipe) = self.recipes.get_mut(blob) {
                recipe.units += 1;
                recipe.bytes = recipe.bytes.saturating_add(one.length);
                recipe.zero_bytes += if one.zeros { one.length } else { 0 };
            }
            let is_new = self.is_kept(&unit) && self.occur(blob, unit, one.path.take());
            wanted.push(
                is_new
                    && matches!(one.packing, Packing::Window(_))
                    && is_packed(&key, one.length, pack_one_in),
            );
        }
        self.shrink();
        wanted
    }

    /// Takes down what units came to when packed.
    pub(super) fn set_packed(&mut self, sizes: &[(Key, u64)]) {
        for (key, size) in sizes {
            // It may have gone from the sample meanwhile.
            if let Ok(at) = self.find(key)
                && let Some(unit) = self.units.get_mut(at)
            {
                unit.packed = *size;
            }
        }
    }

    /// Counts one occurrence of a unit that is kept; answers whether it is the first.
    fn occur(&mut self, blob: usize, unit: Unit, path: Option<Box<str>>) -> bool {
        let (at, is_new) = match self.find(&unit.key) {
            Ok(at) => {
                if let Some(there) = self.units.get_mut(at) {
                    // A whole blob may have been known as far as another place has it.
                    there.length = unit.length;
                    if unit.packed != UNPACKED {
                        there.packed = unit.packed;
                    }
                }
                (at, false)
            }
            Err(slot) => (self.insert(unit, slot), true),
        };
        if let Some(recipe) = self.recipes.get_mut(blob)
            && let Ok(at) = u32::try_from(at)
        {
            recipe.entries.push(at);
            self.entries += 1;
        }
        self.add_path(at, path);
        is_new
    }

    fn add_path(&mut self, unit: usize, path: Option<Box<str>>) {
        let Some(there) = self.paths.as_mut().and_then(|paths| paths.get_mut(unit)) else { return };
        let Some(path) = path else { return };
        if let Err(at) = there.binary_search(&path)
            && at < PATHS
        {
            there.insert(at, path);
            there.truncate(PATHS);
        }
    }

    fn is_kept(&self, unit: &Unit) -> bool {
        unit.length > LARGE || leading_zeros(&unit.key) >= self.bits
    }

    /// What it is taken to cost. Grows with every unit and occurrence, whatever their order.
    fn cost(&self) -> u64 {
        let unit = UNIT_COST + if self.paths.is_some() { PATHS_COST } else { 0 };
        self.units.len() as u64 * unit + self.entries * ENTRY_COST
    }

    /// Keeps fewer units until the rest fits.
    fn shrink(&mut self) {
        while self.cost() > self.limit && self.bits < 64 {
            self.bits += 1;
            self.keep_sample();
        }
    }

    fn keep_sample(&mut self) {
        let keeps: Vec<bool> = self.units.iter().map(|unit| self.is_kept(unit)).collect();
        let order: Vec<usize> = (0..self.units.len()).filter(|at| keeps.get(*at) == Some(&true)).collect();
        self.reorder(&order);
    }

    /// Leaves the units that `order` names, in that order, and forgets the others.
    fn reorder(&mut self, order: &[usize]) {
        let mut places = vec![EMPTY; self.units.len()];
        for (new, old) in order.iter().enumerate() {
            if let Some(place) = places.get_mut(*old) {
                *place = u32::try_from(new).unwrap_or(EMPTY);
            }
        }
        self.units = order.iter().filter_map(|at| self.units.get(*at).cloned()).collect();
        if let Some(paths) = &mut self.paths {
            *paths = order.iter().filter_map(|at| paths.get_mut(*at).map(std::mem::take)).collect();
        }
        self.entries = 0;
        for recipe in &mut self.recipes {
            let place = |at: &u32| places.get(usize::try_from(*at).ok()?).copied().filter(|at| *at != EMPTY);
            recipe.entries = recipe.entries.iter().filter_map(place).collect();
            self.entries += recipe.entries.len() as u64;
        }
        self.rehash(slots_for(self.units.len()));
    }

    /// Where a unit is, or the slot where it belongs.
    fn find(&self, key: &Key) -> Result<usize, usize> {
        if self.slots.is_empty() {
            return Err(0);
        }
        let mask = self.slots.len() - 1;
        let mut slot = place_of(key) & mask;
        loop {
            match self.slots.get(slot).copied().and_then(|at| usize::try_from(at).ok()) {
                Some(at) if self.units.get(at).is_some_and(|unit| unit.key == *key) => return Ok(at),
                Some(at) if at < self.units.len() => slot = (slot + 1) & mask,
                _ => return Err(slot),
            }
        }
    }

    fn insert(&mut self, unit: Unit, slot: usize) -> usize {
        let at = self.units.len();
        let key = unit.key;
        self.units.push(unit);
        if let Some(paths) = &mut self.paths {
            paths.push(Vec::new());
        }
        if self.units.len() * 4 > self.slots.len() * 3 {
            self.rehash(slots_for(self.units.len()) * 2);
        } else if let Some(there) = self.slots.get_mut(slot) {
            *there = u32::try_from(at).unwrap_or(EMPTY);
        }
        debug_assert_eq!(self.find(&key), Ok(at));
        at
    }

    fn rehash(&mut self, slots: usize) {
        self.slots = vec![EMPTY; slots];
        let mask = slots - 1;
        for (at, unit) in self.units.iter().enumerate() {
            let mut slot = place_of(&unit.key) & mask;
            while self.slots.get(slot).is_some_and(|there| *there != EMPTY) {
                slot = (slot + 1) & mask;
            }
            if let Some(there) = self.slots.get_mut(slot) {
                *there = u32::try_from(at).unwrap_or(EMPTY);
            }
        }
    }

    /// Puts units into the order of their keys, so that equal content makes equal tables.
    pub(super) fn finish(&mut self, blobs: usize) {
        self.recipes.resize_with(blobs, Recipe::default);
        let mut order: Vec<usize> = (0..self.units.len()).collect();
        order.sort_unstable_by_key(|at| self.units.get(*at).map(|unit| unit.key));
        self.reorder(&order);
    }

    /// Takes the units of a blob of another table; `from` is the blob there, `to` here.
    pub(super) fn take_blob(&mut self, other: &Self, from: usize, to: usize) {
        let Some(theirs) = other.recipes.get(from) else { return };
        if self.recipes.len() <= to {
            self.recipes.resize_with(to + 1, Recipe::default);
        }
        self.bits = self.bits.max(other.bits);
        if let Some(recipe) = self.recipes.get_mut(to) {
            self.entries -= recipe.entries.len() as u64;
            *recipe = Recipe { entries: Vec::with_capacity(theirs.entries.len()), ..*theirs };
        }
        for at in &theirs.entries {
            let Ok(at) = usize::try_from(*at) else { continue };
            let Some(unit) = other.units.get(at) else { continue };
            if !self.is_kept(unit) {
                continue;
            }
            self.occur(to, unit.clone(), None);
            let Ok(here) = self.find(&unit.key) else { continue };
            for path in other.paths(at) {
                self.add_path(here, Some(path.clone()));
            }
        }
    }

    /// After blobs were taken from another table: one sample, small enough, and units that no blob has any more are gone.
    pub(super) fn settle(&mut self, other: &Self, blobs: usize) {
        self.bits = self.bits.max(other.bits);
        let mut used = vec![false; self.units.len()];
        for at in self.recipes.iter().flat_map(|recipe| &recipe.entries) {
            if let Some(used) = usize::try_from(*at).ok().and_then(|at| used.get_mut(at)) {
                *used = true;
            }
        }
        let keeps = |at: &usize| {
            used.get(*at) == Some(&true) && self.units.get(*at).is_some_and(|unit| self.is_kept(unit))
        };
        let order: Vec<usize> = (0..self.units.len()).filter(keeps).collect();
        self.reorder(&order);
        self.shrink();
        self.finish(blobs);
    }
}

/// Whether a unit is among those that are packed, by another part of the hash than decides on sampling.
pub(super) fn is_packed(key: &Key, length: u64, one_in: u32) -> bool {
    let [.., a, b, c, d] = *key;
    length > LARGE || (one_in > 0 && u32::from_be_bytes([a, b, c, d]) % one_in == 0)
}

fn leading_zeros(key: &Key) -> u32 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes).leading_zeros())
}

/// A part of the key that stays evenly spread in a sample.
fn place_of(key: &Key) -> usize {
    let word = key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    usize::try_from(word & 0xffff_ffff).unwrap_or_default()
}

fn slots_for(units: usize) -> usize {
    (units * 2).next_power_of_two().max(64)
}
