// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Topology

@Suite("What is to be done, from what is there and what is wished for")
struct PreparationPlanTests {
  private let variant = ChosenDriver(name: "mlx5_vfio_pci")
  private let none = PreparationState(
    switchMode: "switchdev", autoprobe: "1", count: 0, maximum: 4, functions: [], hasPCIFunctions: true, addresses: [])
  private let address = MACAddress("02:00:5e:00:00:11")!

  private func prepared(_ change: (inout PreparationState.Function) -> Void = { _ in }) -> PreparationState {
    var function = PreparationState.Function(
      address: "\(address)", isMigratable: "enable", driverOverride: "mlx5_vfio_pci", driver: "mlx5_vfio_pci")
    change(&function)
    var state = none
    state.count = 1
    state.functions = [function]
    state.addresses = [function.address]
    return state
  }

  private func steps(
    _ wish: PreparationWish, _ state: PreparationState, _ driver: ChosenDriver? = nil
  ) throws -> [String] {
    try PreparationPlan(wish, on: state, driver: driver ?? variant).steps.map {
      "\($0.setting) := \($0.value)\($0.isOptional ? " ?" : "")"
    }
  }

  @Test("nothing is planned where all is as wished for, and only the difference otherwise")
  func differences() throws {
    let wish = PreparationWish(functions: 1, switchMode: .switchdev, addresses: [address])
    #expect(try steps(wish, prepared()) == [])
    let again = ["driver of VF 0 := ", "driver of VF 0 := mlx5_vfio_pci"]
    func around(_ step: String) -> [String] { [again[0], step, again[1]] }
    #expect(try steps(wish, prepared { $0.driver = "" }) == [again[1]])
    #expect(try steps(wish, prepared { $0.driverOverride = "" }) == ["driver_override of VF 0 := mlx5_vfio_pci"])
    #expect(
      try steps(wish, prepared { $0.address = "00:00:00:00:00:00" }) == around("MAC address of VF 0 := \(address)"))
    #expect(try steps(wish, prepared { $0.isMigratable = "disable" }) == around("migratable of VF 0 := enable ?"))
    #expect(try steps(wish, prepared { $0.isMigratable = nil }) == [])
    #expect(
      try steps(PreparationWish(functions: 1, isMigratable: false), prepared())
        == around("migratable of VF 0 := disable"))
    #expect(
      try steps(PreparationWish(functions: 1, switchMode: .legacy), prepared())
        == [again[0], "e-switch mode := legacy", "migratable of VF 0 := enable ?", again[1]])
  }

  @Test("drivers look at new functions by themselves only where they did before")
  func autoprobe() throws {
    let wish = PreparationWish(functions: 1)
    let new = [
      "migratable of VF 0 := enable ?", "driver_override of VF 0 := mlx5_vfio_pci", "driver of VF 0 := mlx5_vfio_pci",
    ]
    #expect(
      try steps(wish, none)
        == ["sriov_drivers_autoprobe := 0", "sriov_numvfs := 1"] + new + ["sriov_drivers_autoprobe := 1"])
    var off = none
    off.autoprobe = "0"
    #expect(try steps(wish, off) == ["sriov_numvfs := 1"] + new)
    // What a run that was killed has left is not what was there.
    #expect(
      try PreparationPlan(wish, on: off, driver: variant, autoprobe: "1").steps.last
        == PreparationStep(setting: .autoprobe, value: "1"))
    var left = prepared()
    left.autoprobe = "0"
    #expect(try PreparationPlan(wish, on: left, driver: variant, autoprobe: "1").steps.map(\.setting) == [.autoprobe])
    #expect(try PreparationPlan(wish, on: prepared(), driver: variant, autoprobe: "1").steps.isEmpty)
    off.autoprobe = nil
    #expect(try steps(wish, off) == ["sriov_numvfs := 1"] + new)
  }

  @Test("a module is loaded before all else, and not where nothing is to be bound")
  func module() throws {
    let absent = ChosenDriver(name: "mlx5_vfio_pci", module: "mlx5_vfio_pci")
    #expect(try steps(PreparationWish(functions: 1), none, absent).first == "module mlx5_vfio_pci := loaded")
    #expect(try steps(PreparationWish(functions: 1), prepared(), absent) == [])
  }

  @Test("functions that are no PCI devices have a number, a switch and addresses, and nothing else")
  func simulated() throws {
    var state = none
    state.hasPCIFunctions = false
    state.autoprobe = nil
    state.switchMode = "legacy"
    let wish = PreparationWish(functions: 2, switchMode: .switchdev, addresses: [address], isMigratable: true)
    let plan = try PreparationPlan(wish, on: state, driver: nil).steps.map(\.setting)
    #expect(plan == [.switchMode, .functions, .address(0)])
    state.switchMode = "switchdev"
    state.count = 2
    state.addresses = ["\(address)", nil]
    #expect(try PreparationPlan(wish, on: state, driver: nil).steps.isEmpty)
  }

  @Test("what can't be is refused with what can be done")
  func refusals() throws {
    func refusal(_ wish: PreparationWish, _ state: PreparationState) -> String {
      do throws(PreparationPlan.Refusal) {
        _ = try PreparationPlan(wish, on: state, driver: variant)
        return ""
      } catch {
        return error.reason
      }
    }
    #expect(refusal(PreparationWish(functions: 5), none).hasPrefix("it can have 4 VFs, and not 5 (on a ConnectX"))
    #expect(refusal(PreparationWish(functions: 2), prepared()).contains("it has 1 VFs"))
    #expect(refusal(PreparationWish(functions: 1, addresses: [address, address]), none).contains("2 MAC addresses"))
    var noSwitch = none
    noSwitch.switchMode = nil
    #expect(refusal(PreparationWish(functions: 1, switchMode: .legacy), noSwitch).contains("no e-switch"))
    #expect(refusal(PreparationWish(functions: 1), noSwitch) == "")
    #expect(
      refusal(PreparationWish(functions: 1, isMigratable: true), prepared { $0.isMigratable = nil })
        .contains("has no port for VF 0"))
  }
}
