//! A page whose tables stand between marker comments.

use crate::failure::Failure;

/// `page` with each table of `tables` in the place of what stood between its markers.
pub(crate) fn with_tables(page: &str, tables: &[(&str, String)]) -> Result<String, Failure> {
    let mut page = page.to_owned();
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
        let lacks = || Failure::Setup(format!("the page has no place for the table `{name}`"));
        let (before, rest) = page.split_once(&begin).ok_or_else(lacks)?;
        let (_, after) = rest.split_once(&end).ok_or_else(lacks)?;
        page = format!("{before}{begin}\n{table}\n{end}{after}");
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_what_stood_in_its_place_and_nothing_else() {
        let page =
            "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n";
        let made = with_tables(page, &[("x", "new".to_owned())]).unwrap();
        assert_eq!(made, page.replace("old", "new"));
        assert_eq!(with_tables(&made, &[("x", "new".to_owned())]).unwrap(), made, "twice is as good as once");
        assert!(with_tables(page, &[("z", String::new())]).is_err());
    }
}
