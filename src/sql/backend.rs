use futures::future::BoxFuture;
use sqlx::migrate::Migrate;

/// A value that is bound to a statement.
#[derive(Clone, Debug)]
pub enum Argument {
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Number(Option<i64>),
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<&str>> for Argument {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Vec<u8>> for Argument {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl From<Option<Vec<u8>>> for Argument {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<i64> for Argument {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Argument {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

/// What sqlx cannot express once for all databases. Implemented for `Sqlite` and `Postgres`.
pub trait Backend: sqlx::Database<Connection: Migrate> {
    /// How many may write at once.
    const MAX_WRITERS: usize;

    /// Returns the number of changed rows.
    fn execute<'c>(
        connection: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> BoxFuture<'c, sqlx::Result<u64>>;

    fn fetch<'c>(
        connection: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> BoxFuture<'c, sqlx::Result<Vec<Self::Row>>>;

    fn text(row: &Self::Row, column: usize) -> sqlx::Result<String>;

    fn bytes(row: &Self::Row, column: usize) -> sqlx::Result<Vec<u8>>;

    fn number(row: &Self::Row, column: usize) -> sqlx::Result<Option<i64>>;

    /// Whether this error code of the database means that the next attempt may succeed.
    fn is_transient(code: &str) -> bool;
}

/// The methods of [`Backend`] that read the same for each database but have other types.
macro_rules! statements {
    () => {
        fn execute<'c>(
            connection: &'c mut Self::Connection,
            sql: &'static str,
            arguments: Vec<$crate::sql::Argument>,
        ) -> futures::future::BoxFuture<'c, sqlx::Result<u64>> {
            Box::pin(async move {
                let arguments = bind(arguments).map_err(sqlx::Error::Encode)?;
                Ok(sqlx::query_with(sql, arguments).execute(connection).await?.rows_affected())
            })
        }

        fn fetch<'c>(
            connection: &'c mut Self::Connection,
            sql: &'static str,
            arguments: Vec<$crate::sql::Argument>,
        ) -> futures::future::BoxFuture<'c, sqlx::Result<Vec<Self::Row>>> {
            Box::pin(async move {
                let arguments = bind(arguments).map_err(sqlx::Error::Encode)?;
                sqlx::query_with(sql, arguments).fetch_all(connection).await
            })
        }

        fn text(row: &Self::Row, column: usize) -> sqlx::Result<String> {
            sqlx::Row::try_get(row, column)
        }

        fn bytes(row: &Self::Row, column: usize) -> sqlx::Result<Vec<u8>> {
            sqlx::Row::try_get(row, column)
        }

        fn number(row: &Self::Row, column: usize) -> sqlx::Result<Option<i64>> {
            sqlx::Row::try_get(row, column)
        }
    };
}

/// Converts arguments to those of sqlx.
macro_rules! bind {
    ($arguments:ty) => {
        fn bind(arguments: Vec<$crate::sql::Argument>) -> Result<$arguments, sqlx::error::BoxDynError> {
            use sqlx::Arguments as _;

            let mut bound = <$arguments>::default();
            for argument in arguments {
                match argument {
                    $crate::sql::Argument::Text(text) => bound.add(text)?,
                    $crate::sql::Argument::Bytes(bytes) => bound.add(bytes)?,
                    $crate::sql::Argument::Number(number) => bound.add(number)?,
                }
            }
            Ok(bound)
        }
    };
}
pub(super) use {bind, statements};
