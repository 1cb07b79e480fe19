//! Random numbers. No seed is printed, since a run also depends on timing.

/// xorshift64*
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        use rand::TryRngCore;
        Self(rand::rngs::OsRng.try_next_u64().expect("the system has random bytes") | 1)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.number() >> 33) % end as u64).expect("it is below a usize")
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}
