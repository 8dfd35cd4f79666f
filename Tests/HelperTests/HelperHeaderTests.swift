// SPDX-License-Identifier: Apache-2.0
import CVFIO
import LinuxIO
import Migration
import Testing

@testable import Helper

/// Values that Swift has a name for are the header's.
@Suite("include/vfio_ferry.h and Swift")
struct HelperHeaderTests {
  @Test("phases and codes have the header's numbers, and there are no others")
  func enumerations() {
    let phases: [HelperPhase: Int] = [
      .setup: VFIO_FERRY_PHASE_SETUP, .preCopy: VFIO_FERRY_PHASE_PRE_COPY, .quiescing: VFIO_FERRY_PHASE_QUIESCING,
      .stopped: VFIO_FERRY_PHASE_STOPPED, .complete: VFIO_FERRY_PHASE_COMPLETE,
      .committed: VFIO_FERRY_PHASE_COMMITTED, .loading: VFIO_FERRY_PHASE_LOADING,
      .loaded: VFIO_FERRY_PHASE_LOADED, .resuming: VFIO_FERRY_PHASE_RESUMING,
      .goingBack: VFIO_FERRY_PHASE_GOING_BACK,
    ]
    #expect(phases.count == HelperPhase.allCases.count)
    for (phase, number) in phases { #expect(Int(phase.rawValue) == number) }
    let codes: [HelperCode: Int] = [
      .badPacket: VFIO_FERRY_CODE_BAD_PACKET, .unknownRequest: VFIO_FERRY_CODE_UNKNOWN_REQUEST,
      .version: VFIO_FERRY_CODE_VERSION, .badArgument: VFIO_FERRY_CODE_BAD_ARGUMENT,
      .wrongPhase: VFIO_FERRY_CODE_WRONG_PHASE, .noSuch: VFIO_FERRY_CODE_NO_SUCH, .exists: VFIO_FERRY_CODE_EXISTS,
      .limit: VFIO_FERRY_CODE_LIMIT, .refused: VFIO_FERRY_CODE_REFUSED, .system: VFIO_FERRY_CODE_SYSTEM,
      .device: VFIO_FERRY_CODE_DEVICE, .link: VFIO_FERRY_CODE_LINK, .stream: VFIO_FERRY_CODE_STREAM,
      .memory: VFIO_FERRY_CODE_MEMORY, .outrun: VFIO_FERRY_CODE_OUTRUN, .aborted: VFIO_FERRY_CODE_ABORTED,
      .hung: VFIO_FERRY_CODE_HUNG,
    ]
    #expect(codes.count == HelperCode.allCases.count)
    for (code, number) in codes { #expect(Int(code.rawValue) == number) }
  }

  @Test("states are the kernel's numbers and one more")
  func states() {
    let states: [MigrationState: Int] = [
      .error: VFIO_FERRY_STATE_ERROR, .stop: VFIO_FERRY_STATE_STOP, .running: VFIO_FERRY_STATE_RUNNING,
      .stopCopy: VFIO_FERRY_STATE_STOP_COPY, .resuming: VFIO_FERRY_STATE_RESUMING,
      .runningP2P: VFIO_FERRY_STATE_RUNNING_P2P, .preCopy: VFIO_FERRY_STATE_PRE_COPY,
      .preCopyP2P: VFIO_FERRY_STATE_PRE_COPY_P2P,
    ]
    #expect(states.count == MigrationState.allCases.count)
    for (state, number) in states { #expect(Int(WireField.number(state)) == number) }
    #expect(Int(WireField.number(nil)) == VFIO_FERRY_STATE_UNKNOWN)
  }

  @Test("limits and flags are the header's")
  func values() {
    let limits = HelperLimits()
    #expect(limits.devices == VFIO_FERRY_MAX_DEVICES && limits.memory == VFIO_FERRY_MAX_MEMORY)
    #expect(limits.mappings == VFIO_FERRY_MAX_MAPPINGS && limits.blob == VFIO_FERRY_MAX_BLOB)
    #expect(limits.blobs == VFIO_FERRY_MAX_BLOBS && limits.bitmap == VFIO_FERRY_MAX_BITMAP)
    #expect(PacketSocket.maximumDescriptors == VFIO_FERRY_MAX_DESCRIPTORS)
    #expect(HelperFeatures.pages.rawValue == UInt64(VFIO_FERRY_FEATURE_PAGES))
    #expect(MigrationFeatures.stopCopy.rawValue == UInt64(VFIO_FERRY_DEVICE_STOP_COPY))
    #expect(MigrationFeatures.p2p.rawValue == UInt64(VFIO_FERRY_DEVICE_P2P))
    #expect(MigrationFeatures.preCopy.rawValue == UInt64(VFIO_FERRY_DEVICE_PRE_COPY))
    let possibilities: [(HelperDeviceInfo.Possibilities, Int)] = [
      (.save, VFIO_FERRY_DEVICE_CAN_SAVE), (.load, VFIO_FERRY_DEVICE_CAN_LOAD),
      (.resume, VFIO_FERRY_DEVICE_CAN_RESUME), (.needsReset, VFIO_FERRY_DEVICE_NEEDS_RESET),
      (.isHung, VFIO_FERRY_DEVICE_IS_HUNG),
    ]
    for (possibility, bit) in possibilities { #expect(Int(possibility.rawValue) == bit) }
    // The largest that there is.
    #expect(MemoryLayout<vfio_ferry_device_info>.size <= VFIO_FERRY_MAX_PACKET)
  }
}
