// SPDX-License-Identifier: Apache-2.0
import Engine
import LinuxIO
import Migration
import Synchronization

/// A session in a thread of its own, so that a test can watch it, and meddle, while it is under way.
final class SessionUnderWay<Machine: SessionMachine>: Sendable {
  private let runner: SessionRunner
  private let thread: BlockingThread
  private let box: Box

  private final class Box: Sendable {
    let notes = BlockingQueue<SessionNote>()
    let turns = BlockingQueue<Void>()
    let stops = BlockingQueue<Void>()
    let ended = Mutex<Machine?>(nil)
  }

  init(_ session: Machine, _ group: HeldGroup, _ stream: Stream) throws {
    let runner = try group.runner(stream)
    let box = Box()
    self.runner = runner
    self.box = box
    thread = try BlockingThread(name: "session") {
      let observer = SessionRunner.Observer(
        interval: 1000, note: { note, _ in box.notes.put(note) }, progress: { _, _ in box.turns.put(()) },
        stopVCPUs: { box.stops.put(()) })
      let ended = try? runner.run(session, observer: observer)
      box.ended.withLock { $0 = ended }
      box.notes.close()
      box.turns.close()
      box.stops.close()
    }
  }

  func interrupt() { runner.interrupt(reason: "the test") }
  func declareDead(_ device: Int) { runner.declareDead(device: device) }
  func tellVCPUsStopped() { runner.tellVCPUsStopped() }

  /// Waits for a note; nil where the session ended without it.
  func note(_ isIt: (SessionNote) -> Bool) -> SessionNote? {
    while let note = box.notes.take() {
      if isIt(note) { return note }
    }
    return nil
  }

  /// Waits until the session has taken in everything that it was told, and done what it does then.
  func settle() {
    while box.turns.take(until: 0) != nil {}
    // It looks at what it was told in one turn, and begins the next one afterwards.
    for _ in 1...3 { _ = box.turns.take() }
  }

  /// Waits until the session asks for the vCPUs to be stopped.
  /// - Returns: whether it did.
  func asksForVCPUs() -> Bool { box.stops.take() != nil }

  /// Waits for its end.
  func end() -> Machine? {
    thread.join()
    return box.ended.withLock { $0 }
  }
}
