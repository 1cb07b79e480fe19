//! Lists all clients, one page at a time, so that memory does not grow with their number.

use std::io::{self, Write};

use comfy_table::{Cell, ColumnConstraint, Width};
use shared::registry::Registry;

use crate::show::{GAP, Known, plain, print, table};
use crate::{Failure, Format, Output};

const PAGE: usize = 500;

pub(crate) async fn list(registry: &Registry, out: &mut Output, format: Format) -> Result<(), Failure> {
    let mut listing = Listing { widths: [0; 2], written: 0 };
    if format == Format::Json {
        write!(out, "[")?;
    }
    match registry.store() {
        None => {
            let clients = registry.list(None, usize::MAX).await?;
            listing.write(clients.into_iter().map(Known::from).collect(), out, format)?;
        }
        Some(store) => {
            let mut after: Option<String> = None;
            loop {
                let page = store.list(after.as_deref(), PAGE).await?;
                let Some(last) = page.last() else {
                    break;
                };
                after = Some(last.client.id().to_owned());
                listing.write(page.into_iter().map(Known::from).collect(), out, format)?;
            }
        }
    }
    match (format, listing.written) {
        (Format::Json, 0) => writeln!(out, "]")?,
        (Format::Json, _) => writeln!(out, "\n]")?,
        (Format::Text, 0) => eprintln!("there are no clients"),
        (Format::Text, _) => {}
    }
    Ok(())
}

struct Listing {
    /// Widths of the columns for id and name: a later page may need more, never less.
    widths: [u16; 2],
    written: usize,
}

impl Listing {
    fn write(&mut self, page: Vec<Known>, out: &mut Output, format: Format) -> io::Result<()> {
        let count = page.len();
        match format {
            Format::Json => self.write_json(page, out)?,
            Format::Text => self.write_table(page, out)?,
        }
        self.written += count;
        Ok(())
    }

    fn write_json(&self, page: Vec<Known>, out: &mut Output) -> io::Result<()> {
        for (index, known) in page.into_iter().enumerate() {
            let separator = if self.written + index == 0 { "" } else { "," };
            write!(out, "{separator}\n{}", known.to_json())?;
        }
        Ok(())
    }

    fn write_table(&mut self, page: Vec<Known>, out: &mut Output) -> io::Result<()> {
        let mut table = table();
        if self.written == 0 && !page.is_empty() {
            table.add_row(["ID", "NAME", "STATUS", "ORIGIN", "LAST USED"]);
        }
        for known in page {
            let last_used = known.last_used_at().unwrap_or_else(|| "-".to_owned());
            table.add_row([
                Cell::new(plain(known.client.id())),
                Cell::new(plain(known.client.name().unwrap_or("-"))),
                Cell::new(known.status()).fg(known.color()),
                Cell::new(known.origin().unwrap_or("-")),
                Cell::new(last_used),
            ]);
        }
        let needed = table.column_max_content_widths();
        for (index, width) in self.widths.iter_mut().enumerate() {
            *width = needed.get(index).copied().unwrap_or_default().max(*width);
            if let Some(column) = table.column_mut(index) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + GAP)));
            }
        }
        print(&mut table, out)
    }
}
