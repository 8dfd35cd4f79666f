// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration

/// Dirty pages in memory that a VMM maps too. Here because `Migration` knows no system, and `LinuxIO` no dirty pages.
extension SharedWords: DirtyWords {}

extension DirtyBitmap where Words == SharedWords {
  /// A bitmap that can be shared, with nothing dirty.
  /// - Throws: ``LinuxIO/SystemError`` where there is no memory or no descriptor.
  public init(sharing layout: DirtyLayout) throws {
    try self.init(layout: layout, words: SharedWords(count: layout.wordCount, name: "dirty pages"))
  }
}
