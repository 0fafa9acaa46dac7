"""Programs that hold memory of a card now are named, and a plan may take the card as it is without them."""

from __future__ import annotations

import os

from llmstack.deploy.machine_record import Machine
from llmstack.detect.driver_cards import DriverCard, GpuProcess
from llmstack.detect.holders import held_by_programs, idle
from llmstack.hardware import Cpu, Device, Hardware, Ram

CARD = Device("RTX 4090", "CUDA", 24564, 20000)


def card(*processes: GpuProcess) -> DriverCard:
    return DriverCard(CARD, processes)


def test_processes_of_one_program_are_counted_together_and_ours_and_unsaid_ones_left_out() -> None:
    mine, gone = os.getpid(), 2**22 - 7
    cards = [card(GpuProcess(mine, 900, True), GpuProcess(gone, 300, True)), None]
    names = {hold.mib for hold in held_by_programs(cards, ())}
    assert names == {900, 300}
    assert [hold.mib for hold in held_by_programs(cards, {mine})] == [300]
    assert held_by_programs([card(GpuProcess(mine, None, True), GpuProcess(gone, 10, True))], ()) == ()


def test_an_idle_card_has_what_they_hold_free_and_never_more_than_there_is() -> None:
    assert idle(CARD, card(GpuProcess(5, 1500, False)), ()).free_mib == 21500
    assert idle(CARD, card(GpuProcess(5, 9000, False)), ()).free_mib == 24564
    assert idle(CARD, card(GpuProcess(5, 1500, False)), {5}) == CARD
    assert idle(CARD, None, ()) == CARD


def test_a_machine_tells_who_holds_memory_and_is_planned_without_them_on_demand() -> None:
    now = Hardware(Ram(64000, 60000), Cpu(8, 16), (CARD,))
    empty = Hardware(Ram(64000, 60000), Cpu(8, 16), (idle(CARD, card(GpuProcess(5, 1500, False)), ()),))
    machine = Machine(now, holders=(("firefox", 1500),), idle=empty)
    assert "firefox 1.5 GiB" in machine.told() and "--idle" in machine.told()
    assert machine.without_others().hardware is empty and machine.without_others().told() == ""
    assert Machine(now).told() == "" and Machine(now).without_others().hardware is now
