//! What operators do that concerns money and traffic: raises and switches. Each is booked before it is in force.

use std::io;

use super::{Books, State, encode};
use crate::ledger::{
    raises::Raises,
    row::{Entry, RaiseRow, switches::SwitchRow},
    switches::Switches,
};

impl Books {
    /// Books a raise; it is in force when this returns.
    ///
    /// # Errors
    /// As [`Books::begin`]; then nothing is raised.
    pub fn raise(&self, row: RaiseRow) -> io::Result<()> {
        self.act(Entry::Raise(row.clone()))?;
        self.raises.add(&row);
        Ok(())
    }

    /// The raises of all fences.
    pub fn raises(&self) -> &Raises {
        &self.raises
    }

    /// Books that something is switched off or on; it is in force when this returns.
    ///
    /// # Errors
    /// As [`Books::begin`]; then nothing is switched.
    pub fn switch(&self, row: SwitchRow) -> io::Result<()> {
        self.act(Entry::Switch(row.clone()))?;
        self.switches.add(&row);
        Ok(())
    }

    /// What is switched off.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    fn act(&self, entry: Entry) -> io::Result<()> {
        let encoded = encode(&entry)?;
        let mut state = self.lock();
        state.write(&encoded)?;
        state.fold(entry);
        drop(state);
        self.wrote();
        Ok(())
    }
}

impl State {
    /// Keeps a raise for the next checkpoint; those that have ended before it begins are forgotten.
    pub(super) fn keep_raise(&mut self, row: RaiseRow) {
        self.raises.retain(|other| other.until_ms > row.from_ms && other.id != row.id);
        self.raises.push(row);
    }

    /// Keeps the newest word on a thing for the next checkpoint.
    pub(super) fn keep_switch(&mut self, row: SwitchRow) {
        let known = self.switches.iter().position(|other| (other.kind, &other.name) == (row.kind, &row.name));
        match known {
            Some(index) if row.stands_above(&self.switches[index]) => self.switches[index] = row,
            Some(_) => {}
            None => self.switches.push(row),
        }
    }
}
