//! The CPUID table that a guest sees.

/// One line of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidEntry {
    /// EAX on input.
    pub function: u32,
    /// ECX on input, for functions that look at it; `None` for those that do not.
    pub index: Option<u32>,
    /// EAX on output.
    pub eax: u32,
    /// EBX on output.
    pub ebx: u32,
    /// ECX on output.
    pub ecx: u32,
    /// EDX on output.
    pub edx: u32,
}

/// The table, in the order in which a guest or a CPUID page gets it: at most one entry for each function and index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuidTable {
    entries: Vec<CpuidEntry>,
}

impl CpuidTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// All entries.
    pub fn entries(&self) -> &[CpuidEntry] {
        &self.entries
    }

    /// What the guest gets for EAX = `function`, ECX = `index`.
    pub fn get(&self, function: u32, index: u32) -> Option<&CpuidEntry> {
        self.entries
            .iter()
            .find(|entry| entry.function == function && entry.index.is_none_or(|own| own == index))
    }

    /// Puts `entry` in, in the place of the one with the same function and index.
    pub fn set(&mut self, entry: CpuidEntry) {
        let same = |other: &&mut CpuidEntry| (other.function, other.index) == (entry.function, entry.index);
        match self.entries.iter_mut().find(same) {
            Some(other) => *other = entry,
            None => self.entries.push(entry),
        }
    }

    /// Changes the entry for a function that does not look at ECX, or makes one of zeros and changes that.
    pub fn edit(&mut self, function: u32, change: impl FnOnce(&mut CpuidEntry)) {
        let mut entry =
            self.entries.iter().find(|entry| entry.function == function).copied().unwrap_or_default();
        entry.function = function;
        change(&mut entry);
        self.set(entry);
    }

    /// Takes every entry of a function out.
    pub fn remove(&mut self, function: u32) {
        self.entries.retain(|entry| entry.function != function);
    }

    /// Keeps only what `keep` says.
    pub fn retain(&mut self, keep: impl FnMut(&CpuidEntry) -> bool) {
        self.entries.retain(keep);
    }

    /// Sets the vendor string of leaves 0 and 0x80000000: `AuthenticAMD`, `GenuineIntel`.
    ///
    /// It stands in EBX, EDX, ECX, in this order, four characters each, the first in the low byte.
    pub fn set_vendor(&mut self, vendor: &[u8; 12]) {
        let [b0, b1, b2, b3, d0, d1, d2, d3, c0, c1, c2, c3] = *vendor;
        for function in [0, 0x8000_0000] {
            self.edit(function, |entry| {
                entry.ebx = u32::from_le_bytes([b0, b1, b2, b3]);
                entry.edx = u32::from_le_bytes([d0, d1, d2, d3]);
                entry.ecx = u32::from_le_bytes([c0, c1, c2, c3]);
            });
        }
    }

    /// Raises the highest leaf of a range (`range` is 0, 0x40000000 or 0x80000000) to at least `function`.
    pub fn raise_limit(&mut self, range: u32, function: u32) {
        self.edit(range, |entry| entry.eax = entry.eax.max(function));
    }
}

impl FromIterator<CpuidEntry> for CpuidTable {
    fn from_iter<I: IntoIterator<Item = CpuidEntry>>(entries: I) -> Self {
        let mut table = Self::new();
        for entry in entries {
            table.set(entry);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn entry(function: u32, index: Option<u32>, eax: u32) -> CpuidEntry {
        CpuidEntry { function, index, eax, ebx: 0, ecx: 0, edx: 0 }
    }

    #[test]
    fn index_matters_where_the_entry_says_so() {
        let table: CpuidTable =
            [entry(1, None, 10), entry(4, Some(0), 40), entry(4, Some(1), 41)].into_iter().collect();
        assert_eq!(table.get(1, 99).unwrap().eax, 10);
        assert_eq!(table.get(4, 1).unwrap().eax, 41);
        assert_eq!(table.get(4, 2), None);
        assert_eq!(table.get(2, 0), None);
    }

    #[test]
    fn a_function_and_index_stand_once() {
        let mut table: CpuidTable =
            [entry(1, None, 10), entry(1, None, 11), entry(7, Some(0), 70)].into_iter().collect();
        assert_eq!(table.entries().len(), 2);
        table.edit(1, |entry| entry.ebx = 5);
        assert_eq!((table.get(1, 0).unwrap().eax, table.get(1, 0).unwrap().ebx), (11, 5));
        table.edit(0x8000_001f, |entry| entry.eax = 0x1a);
        assert_eq!(table.entries().len(), 3);
        table.remove(7);
        table.retain(|entry| entry.function != 1);
        assert_eq!(table.entries(), [entry(0x8000_001f, None, 0x1a)]);
    }

    #[test]
    fn vendor_stands_in_ebx_edx_ecx() {
        let mut table = CpuidTable::new();
        table.set_vendor(b"AuthenticAMD");
        for function in [0, 0x8000_0000] {
            let entry = table.get(function, 0).unwrap();
            assert_eq!(entry.ebx.to_le_bytes(), *b"Auth");
            assert_eq!(entry.edx.to_le_bytes(), *b"enti");
            assert_eq!(entry.ecx.to_le_bytes(), *b"cAMD");
        }
        table.raise_limit(0x8000_0000, 0x8000_001f);
        table.raise_limit(0x8000_0000, 0x8000_0008);
        assert_eq!(table.get(0x8000_0000, 0).unwrap().eax, 0x8000_001f);
    }
}
