// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// What is read as text from sysfs and kept or shown: attributes, and names of drivers and devices. Below another root it
/// is what somebody sent, so it is made harmless here, once, for every output.
enum Attribute {
  /// The most bytes of an attribute: the kernel's have a page at most.
  static let maximumSize = 4096
  /// The most characters of a text that is kept, more than any name or value of the kernel's has.
  static let maximumKept = 128

  /// An attribute of several lines, to be taken apart; nil where it can't be read.
  static func lines(_ path: String) -> String? { Files.text(path, maximum: maximumSize) }

  /// An attribute's text, harmless; nil where it can't be read.
  static func text(_ path: String) -> String? { lines(path).map(harmless) }

  /// The name of what a link points at, harmless; nil where there is no link.
  static func linkedName(_ path: String) -> String? { Files.link(path).map { harmless(Files.lastComponent($0)) } }

  /// A text as it may be shown: cut to ``maximumKept`` characters, and what could change a terminal's state, end a line or
  /// turn its direction around is replaced. These are the control and format characters and the separators of lines and
  /// paragraphs, in Unicode's words.
  static func harmless(_ text: String) -> String {
    let bytes = text.utf8
    if bytes.count <= maximumKept, bytes.allSatisfy({ (0x20...0x7e).contains($0) }) { return text }
    var kept = String.UnicodeScalarView()
    for scalar in text.unicodeScalars.prefix(maximumKept) {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator: kept.append("\u{fffd}")
      default: kept.append(scalar)
      }
    }
    return String(kept)
  }
}
