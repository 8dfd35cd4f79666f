// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization

/// What threads have to tell the one that has the session, and the descriptors that go out with it.
final class HelperMailbox: Sendable {
  struct Letter: Sendable {
    let input: HelperSession.Input
    /// Goes out with the reply.
    let file: SentFile?
  }

  let bell: Doorbell
  private struct State {
    var letters: [Letter] = []
    var hasRung = false
  }
  private let state = Mutex(State())

  init() throws(SystemError) { bell = try Doorbell() }

  /// - Parameter isUrgent: whether it rings; what does not lies there until something else does.
  func put(_ input: HelperSession.Input, isUrgent: Bool = true) {
    put(Letter(input: input, file: nil), isUrgent: isUrgent)
  }

  /// - Parameter file: becomes the letter's own.
  func put(_ input: HelperSession.Input, with file: consuming Descriptor) { put(input, with: SentFile(file)) }

  /// - Parameter file: may go out with others, too.
  func put(_ input: HelperSession.Input, with file: SentFile) { put(Letter(input: input, file: file), isUrgent: true) }

  private func put(_ letter: Letter, isUrgent: Bool) {
    let rings = state.withLock { state in
      state.letters.append(letter)
      // Whoever comes for one takes the others with it.
      let rings = isUrgent && !state.hasRung
      if rings { state.hasRung = true }
      return rings
    }
    if rings { bell.ring() }
  }

  /// All that has come, oldest first.
  /// - Parameter isRung: whether the bell was heard; it may ring without, and for letters that were taken already.
  func take(isRung: Bool) -> [Letter] {
    state.withLock { state in
      // Here, so that nobody rings between: that would be for a letter that is left.
      if isRung || state.hasRung { bell.answer() }
      state.hasRung = false
      defer { state.letters = [] }
      return state.letters
    }
  }
}

/// A descriptor on its way out.
final class SentFile: Sendable {
  let descriptor: Descriptor
  init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
}
