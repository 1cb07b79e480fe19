//! All clients, a page at a time: memory does not grow with their number.

use std::io::{self, Write};

use crate::registry::Registry;
use crate::show::{Known, plain};
use crate::{Failure, Format, Output};

const PAGE: usize = 500;

pub(crate) async fn list(registry: &Registry, out: &mut Output, format: Format) -> Result<(), Failure> {
    let mut table = Table { widths: [2, 4], lines: 0 };
    if format == Format::Json {
        write!(out, "[")?;
    }
    match registry.store() {
        None => table.write(registry.list(None, usize::MAX).await?.into_iter().map(Known::from), out, format)?,
        Some(store) => {
            let mut after: Option<String> = None;
            loop {
                let page = store.list(after.as_deref(), PAGE).await?;
                let Some(last) = page.last() else {
                    break;
                };
                after = Some(last.client.id().to_owned());
                table.write(page.into_iter().map(Known::from), out, format)?;
            }
        }
    }
    match (format, table.lines) {
        (Format::Json, 0) => writeln!(out, "]")?,
        (Format::Json, _) => writeln!(out, "\n]")?,
        (Format::Text, 0) => eprintln!("there are no clients"),
        (Format::Text, _) => {}
    }
    Ok(())
}

struct Table {
    /// Of the columns that the clients choose. Later pages may be wider.
    widths: [usize; 2],
    lines: usize,
}

impl Table {
    fn write(&mut self, page: impl Iterator<Item = Known>, out: &mut Output, format: Format) -> io::Result<()> {
        match format {
            Format::Json => {
                for known in page {
                    let separator = if self.lines == 0 { "" } else { "," };
                    write!(out, "{separator}\n{}", known.to_json())?;
                    self.lines += 1;
                }
            }
            Format::Text => {
                let rows: Vec<_> = page.map(Row::from).collect();
                for row in &rows {
                    self.widths = [self.widths[0].max(width(&row.id)), self.widths[1].max(width(&row.name))];
                }
                let [id, name] = self.widths;
                if self.lines == 0 && !rows.is_empty() {
                    writeln!(
                        out,
                        "{:id$}  {:8}  {:10}  {:name$}  {:20}",
                        "ID", "STATUS", "ORIGIN", "NAME", "LAST USED"
                    )?;
                }
                self.lines += rows.len();
                for row in rows {
                    let (style, status) = (row.known.style(), row.known.status());
                    let origin = row.known.origin().unwrap_or("-");
                    let last_used = row.known.last_used_at().unwrap_or_else(|| "-".to_owned());
                    writeln!(
                        out,
                        "{:id$}  {style}{status:8}{style:#}  {origin:10}  {:name$}  {last_used}",
                        row.id, row.name
                    )?;
                }
            }
        }
        Ok(())
    }
}

struct Row {
    id: String,
    name: String,
    known: Known,
}

impl From<Known> for Row {
    fn from(known: Known) -> Self {
        let id = plain(known.client.id());
        Self { id, name: plain(known.client.name().unwrap_or("-")), known }
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}
