// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("The pace of pre-copy")
struct PreCopyPaceTests {
  static func pace() -> PreCopyPace {
    var limits = PreCopyPace.Limits()
    limits.smallBytes = 100
    limits.patience = 3
    return PreCopyPace(limits: limits)
  }

  @Test("a device is ready once its initial data is out and little is left")
  func small() {
    var pace = Self.pace()
    pace.take(PreCopyInfo(initialBytes: 5000, dirtyBytes: 0), bytesRead: 0, isDrained: false)
    #expect(!pace.isReady && !pace.initialIsOut)
    pace.take(PreCopyInfo(initialBytes: 10, dirtyBytes: 0), bytesRead: 4990, isDrained: false)
    #expect(!pace.isReady)
    pace.take(PreCopyInfo(initialBytes: 0, dirtyBytes: 100), bytesRead: 10, isDrained: true)
    #expect(pace.isReady && pace.initialIsOut)
  }

  @Test("a device that shrinks as fast as it is read is waited for")
  func shrinking() {
    var pace = Self.pace()
    for left in stride(from: UInt64(100_000), to: 1000, by: -1000) {
      pace.take(PreCopyInfo(initialBytes: 0, dirtyBytes: left), bytesRead: 1000, isDrained: false)
      #expect(!pace.isReady, "\(left)")
    }
  }

  @Test("a device that changes as fast as it is read is waited for no longer than the patience says")
  func notShrinking() {
    var pace = Self.pace()
    for reading in 0...3 {
      #expect(!pace.isReady, "reading \(reading)")
      pace.take(PreCopyInfo(initialBytes: 0, dirtyBytes: 5000), bytesRead: 5000, isDrained: true)
    }
    #expect(pace.isReady)
  }

  @Test("readings while nothing could be read say nothing")
  func blocked() {
    var pace = Self.pace()
    for _ in 0..<50 { pace.take(PreCopyInfo(initialBytes: 0, dirtyBytes: 5000), bytesRead: 0, isDrained: false) }
    #expect(!pace.isReady)
  }

  @Test("a driver that begins anew with its initial data is not ready any more")
  func restarted() {
    var pace = Self.pace()
    pace.take(PreCopyInfo(initialBytes: 0, dirtyBytes: 0), bytesRead: 0, isDrained: true)
    #expect(pace.isReady)
    pace.take(PreCopyInfo(initialBytes: 50, dirtyBytes: 0, restartedInitial: true), bytesRead: 0, isDrained: true)
    #expect(!pace.isReady && !pace.initialIsOut)
  }

  @Test("a driver whose initial data never ends holds up the stop for ten times the patience, and no longer")
  func initialNeverEnds() {
    var pace = Self.pace()
    for reading in 0...30 {
      #expect(!pace.isReady, "reading \(reading)")
      pace.take(PreCopyInfo(initialBytes: 50, dirtyBytes: 0), bytesRead: 0, isDrained: true)
    }
    #expect(pace.isReady && !pace.initialIsOut)
  }

  @Test("figures at the end of their range do no harm")
  func extremes() {
    var pace = Self.pace()
    pace.take(PreCopyInfo(initialBytes: .max, dirtyBytes: .max), bytesRead: .max, isDrained: false)
    pace.take(PreCopyInfo(initialBytes: 0, dirtyBytes: .max), bytesRead: 0, isDrained: true)
    pace.take(PreCopyInfo(initialBytes: 0, dirtyBytes: 0), bytesRead: .max, isDrained: true)
    #expect(pace.isReady)
  }
}
