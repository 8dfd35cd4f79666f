// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Synchronization
import Testing
import VFIO

extension LabTests {
  /// Arcs that hang, as in a driver that waits for its firmware.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct HangTests {
    /// A request for a state in a thread of its own, and what came of it.
    private final class Request: Sendable {
      private let thread: BlockingThread
      private let answer: Answer
      /// The thread's name, by which the kernel shows it.
      static let name = "asks"

      private final class Answer: Sendable {
        let failure = Mutex<DeviceError?>(nil)
        let data = Mutex<(any MigrationData)?>(nil)
      }

      init(_ device: KernelDevice, _ state: MigrationState) throws {
        let answer = Answer()
        self.answer = answer
        thread = try BlockingThread(name: Self.name) {
          do throws(DeviceError) {
            let data = try device.setMigrationState(state)
            answer.data.withLock { $0 = data }
          } catch {
            answer.failure.withLock { $0 = error }
          }
        }
      }

      /// Waits for the answer.
      func end() throws -> (any MigrationData)? {
        thread.join()
        if let failure = answer.failure.withLock({ $0 }) { throw failure }
        return answer.data.withLock { $0 }
      }
    }

    @Test("an arc that hangs ends when it is released, and then the device is where it was asked to be")
    func releases() throws {
      let synthetic = try Synthetic("hangs", ["arc_hang": "running-p2p:stop 1"])
      defer { synthetic.remove() }
      let device = try synthetic.open()
      let request = try Request(device, .stop)
      try Lab.waitUntilHung(pid: getpid(), thread: Request.name)
      try synthetic.set("release", "1")
      #expect(try request.end() == nil)
      #expect(try device.migrationState() == .stop)
      // The next use does not hang.
      #expect(try device.setMigrationState(.running) == nil)
      #expect(try device.setMigrationState(.stop) == nil)
    }

    @Test("data can be read while an arc hangs: control and data are used at once")
    func dataMeanwhile() throws {
      let synthetic = try Synthetic("hangs", ["arc_hang": "pre-copy:pre-copy-p2p 1", "state_bytes": "256K"])
      defer { synthetic.remove() }
      let device = try synthetic.open()
      let data = try #require(try device.setMigrationState(.preCopy))
      let request = try Request(device, .preCopyP2P)
      defer { try? synthetic.set("release", "1") }
      try Lab.waitUntilHung(pid: getpid(), thread: Request.name)
      let early = try StatePairs.drained(data)
      #expect(early.count >= 256 << 10)
      try synthetic.set("release", "1")
      #expect(try request.end() == nil)
      #expect(try device.setMigrationState(.stopCopy) == nil)
      let image = early + (try StatePairs.drained(data))
      // And what was read is good.
      try device.reset()
      #expect(try device.setMigrationState(.stop) == nil)
      try #require(try device.setMigrationState(.resuming)).write(image.span)
      #expect(try device.setMigrationState(.stop) == nil)
    }

    @Test("a reset during an arc that hangs returns, and takes effect when the arc ends")
    func resetMeanwhile() throws {
      let synthetic = try Synthetic("hangs", ["arc_hang": "pre-copy:pre-copy-p2p 1"])
      defer { synthetic.remove() }
      let device = try synthetic.open()
      let data = try #require(try device.setMigrationState(.preCopy))
      let request = try Request(device, .preCopyP2P)
      defer { try? synthetic.set("release", "1") }
      try Lab.waitUntilHung(pid: getpid(), thread: Request.name)
      let before = try synthetic.referee["resets"]
      // In a thread: a reset that waited for the arc would keep this test from releasing it.
      let reset = try Reset(device)
      try Lab.wait(until: "the reset returned") { reset.isDone }
      #expect(try synthetic.referee["resets"] == before)
      try synthetic.set("release", "1")
      _ = try? request.end()
      #expect(try device.migrationState() == .running)
      #expect(try synthetic.referee["resets"] == before + 1)
      #expect(throws: DeviceError(.readData, .errno(.noDevice))) { try StatePairs.drained(data) }
    }

    @Test("a process that hangs in an arc can't be killed until it is released; then its device is reset")
    func killed() throws {
      let synthetic = try Synthetic("hangs", ["arc_hang": "running-p2p:stop 1"])
      defer { synthetic.remove() }
      let holder = try DeviceHolder(synthetic.node)
      defer { try? synthetic.set("release", "1") }
      try synthetic.resetReferee()
      holder.tell("set stop")
      try Lab.waitUntilHung(pid: holder.pid)
      kill(holder.pid, SIGKILL)
      // The signal is there and has changed nothing.
      try Lab.wait(until: "SIGKILL was pending") { Self.hasPendingKill(holder.pid) }
      try Lab.waitUntilHung(pid: holder.pid)
      #expect(try synthetic.referee["open"] == 1)
      try synthetic.set("release", "1")
      #expect(holder.readLine() == "(ended)")
      try Lab.wait(until: "the device was closed") { try synthetic.referee["open"] == 0 }
      #expect(try synthetic.state == .running)
      #expect(try synthetic.referee["resets"] == 1)
    }

    private static func hasPendingKill(_ pid: Int32) -> Bool {
      guard let status = Files.text("/proc/\(pid)/status") else { return false }
      // Bits of signals that wait for the process or for its first thread.
      return status.split(separator: "\n").contains { line in
        let parts = line.split(separator: "\t")
        guard parts.count == 2, parts[0] == "SigPnd:" || parts[0] == "ShdPnd:" else { return false }
        return UInt64(parts[1], radix: 16).map { $0 & 1 << UInt64(SIGKILL - 1) != 0 } ?? false
      }
    }
  }

  /// A reset in a thread of its own.
  private final class Reset: Sendable {
    private let done: Flag

    private final class Flag: Sendable {
      let value = Atomic(false)
    }

    var isDone: Bool { done.value.load(ordering: .acquiring) }

    init(_ device: KernelDevice) throws {
      let done = Flag()
      self.done = done
      _ = try BlockingThread(name: "resets") {
        do throws(DeviceError) {
          try device.reset()
          done.value.store(true, ordering: .releasing)
        } catch {
          Issue.record("\(error)")
        }
      }
    }
  }
}
