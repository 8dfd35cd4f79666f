// SPDX-License-Identifier: Apache-2.0

/// A table of rows that are alike, for a terminal and for a page in Markdown.
struct ColumnTable<Row> {
  /// A column: what is above it, and what a row has there.
  struct Column: Sendable {
    let title: String
    let isNumber: Bool
    let cell: @Sendable (Row) -> String

    /// A column of words.
    static func words(_ title: String, _ cell: @escaping @Sendable (Row) -> String) -> Column {
      Column(title: title, isNumber: false, cell: cell)
    }

    /// A column of numbers, which stand below each other by their last digits.
    static func numbers(_ title: String, _ cell: @escaping @Sendable (Row) -> String) -> Column {
      Column(title: title, isNumber: true, cell: cell)
    }
  }

  let columns: [Column]
  let rows: [Row]
  /// A row for scripts.
  let object: (Row) -> JSON

  /// For a terminal.
  var lines: [String] {
    let cells = [columns.map { $0.title.uppercased() }] + rows.map { row in columns.map { $0.cell(row) } }
    let widths = columns.indices.map { column in cells.reduce(0) { max($0, $1[column].count) } }
    return TextTable.lines(
      cells.map { row in
        row.enumerated().map { column, cell in
          columns[column].isNumber ? String(repeating: " ", count: widths[column] - cell.count) + cell : cell
        }
      })
  }

  /// For a page in Markdown.
  var markdown: [String] {
    func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }
    return [line(columns.map(\.title)), line(columns.map { $0.isNumber ? "---:" : "---" })]
      + rows.map { row in line(columns.map { $0.cell(row) }) }
  }

  /// For scripts.
  var json: JSON { .array(rows.map(object)) }

  /// On a terminal, or for a script.
  func print(_ format: FormatOptions, _ console: Console) {
    if format.wantsJSON { return console.json(.object(["rows": json]), format) }
    for line in lines { console.line(line) }
  }
}
