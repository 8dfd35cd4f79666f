// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("States, features and error numbers")
struct MigrationStateTests {
  @Test("states have the kernel's numbers and the names that users see")
  func numbersAndNames() {
    let expected: [(UInt32, String)] = [
      (0, "error"), (1, "stop"), (2, "running"), (3, "stop-copy"), (4, "resuming"), (5, "running-p2p"), (6, "pre-copy"),
      (7, "pre-copy-p2p"),
    ]
    #expect(MigrationState.allCases.map(\.rawValue) == expected.map { $0.0 })
    #expect(MigrationState.allCases.map(\.name) == expected.map { $0.1 })
    #expect(MigrationState(rawValue: 8) == nil)
  }

  @Test("a state is found by its name in the kernel's spelling too")
  func parsing() {
    for state in MigrationState.allCases {
      #expect(MigrationState(name: state.name) == state)
      #expect(MigrationState(name: state.name.uppercased().split(separator: "-").joined(separator: "_")) == state)
    }
    for text in ["", "-", "run", "running ", "running--p2p", "runningp2p", "stop_copy_"] {
      #expect(MigrationState(name: text) == nil, "\(text)")
    }
  }

  @Test("the P2P states start no peer transfers, and may write memory")
  func powers() {
    #expect(MigrationState.allCases.filter(\.mayStartPeerTransfers) == [.running, .preCopy])
    #expect(MigrationState.allCases.filter(\.mayWriteMemory) == [.running, .runningP2P, .preCopy, .preCopyP2P])
    #expect(MigrationState.allCases.filter(\.isSaving) == [.stopCopy, .preCopy, .preCopyP2P])
    #expect(MigrationState.allCases.filter(\.hasDataDescriptor) == [.stopCopy, .resuming, .preCopy, .preCopyP2P])
    #expect(MigrationState.preCopyP2P.withoutPreCopy == .runningP2P)
    #expect(MigrationState.preCopy.withoutPreCopy == .running)
    #expect(MigrationState.stopCopy.withoutPreCopy == .stopCopy)
  }

  @Test("feature bits of a newer kernel are kept and named")
  func unknownFeatures() {
    let features = MigrationFeatures(rawValue: 0b1_0000_0101)
    #expect(features.contains(.stopCopy) && features.contains(.preCopy) && !features.contains(.p2p))
    #expect(features.unknown == 0x100)
    #expect(features.names == ["stop-copy", "pre-copy", "unknown(0x100)"])
    #expect(MigrationFeatures(rawValue: 7).unknown == 0)
  }

  @Test("error numbers have their C names, and a number without one is told as it is")
  func errorNames() {
    #expect(ErrorNumber.noMessage.name == "ENOMSG")
    #expect(ErrorNumber.notSupported.description == "EOPNOTSUPP")
    #expect(ErrorNumber(rawValue: 9999).name == "errno 9999")
    let error = DeviceError(.setState(.stopCopy), .errno(.inputOutput))
    #expect("\(error)" == "going to stop-copy failed with EIO")
    #expect(error.errno == .inputOutput)
    #expect(DeviceError(.readState, .unknownState(9)).errno == nil)
  }

  @Test("time does not run over")
  func time() {
    let late = MonotonicTime(microseconds: .max - 3)
    #expect(late.adding(microseconds: 10).microseconds == .max)
    #expect(MonotonicTime(microseconds: 5).microseconds(since: late) == 0)
    #expect(MonotonicTime(microseconds: 9).microseconds(since: MonotonicTime(microseconds: 5)) == 4)
  }

  @Test("what a driver says is left never runs over")
  func remaining() {
    #expect(PreCopyInfo(initialBytes: .max, dirtyBytes: 1).remainingBytes == .max)
    #expect(PreCopyInfo(initialBytes: 3, dirtyBytes: 4).remainingBytes == 7)
  }
}
