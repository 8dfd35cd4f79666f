// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Memory for the kernel's answers to one tracker, kept from one reading to the next.
///
/// It is locked: where the kernel can't write, most of these calls say nothing, and what they had to tell is gone.
struct AnswerMemory: ~Copyable {
  /// For messages: whose answers these are.
  let kind: TrackerKind
  private var words: LockedWords?

  init(_ kind: TrackerKind) { self.kind = kind }

  /// Has the kernel write an answer over zeros.
  /// - Parameters:
  ///   - pages: how many bits it has.
  ///   - call: has as many words as they take, or more.
  mutating func ask(
    _ pages: UInt64, _ call: (inout LockedWords) throws(SystemError) -> Void
  ) throws(TrackerError) {
    let needed = Int((pages + 63) / 64)
    do throws(SystemError) {
      var memory: LockedWords
      if let had = words.take(), had.count >= needed {
        memory = had
      } else {
        memory = try LockedWords(count: needed)
      }
      memory.clear(needed)
      try call(&memory)
      words = consume memory
    } catch {
      throw TrackerError(kind, .read, .errno(ErrorNumber(rawValue: error.errno)))
    }
  }

  /// Adds the last answer, or a part of it, to a bitmap.
  mutating func add<Words: DirtyWords & ~Copyable>(
    _ answer: DirtyAnswer, to bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError) {
    guard let memory = words.take() else { preconditionFailure("an answer comes before it is used") }
    do throws(DirtyBitmapError) {
      try memory.withWords { span throws(DirtyBitmapError) in try bitmap.union(span, answer) }
    } catch {
      throw TrackerError(kind, .read, .bitmap(error))
    }
    words = consume memory
  }
}

extension TrackerKind {
  /// Makes what the kernel answered an error of this kind of tracker.
  func asking<Result: ~Copyable>(
    _ operation: TrackerError.Operation, _ body: () throws(SystemError) -> Result
  ) throws(TrackerError) -> Result {
    do throws(SystemError) {
      return try body()
    } catch {
      throw TrackerError(self, operation, .errno(ErrorNumber(rawValue: error.errno)))
    }
  }
}
